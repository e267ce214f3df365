"""Detection in drawings by regions: proposals, a vector of each from the detector's own features, and class rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import numpy as np

from services.detection.drawn import OVERLAP, PROPOSALS
from services.detection.drawn_names import DrawnNames
from services.detection.drawn_scores import Weights, named, proposals
from services.detection.protocol import Array, Example, Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows
from services.encoding.images import preprocessor, run_images, unit
from services.media.image import Picture
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle, Options, Tensor, as_float32
from services.stages import Stages

OUTPUTS = ("features", "deltas", "centerness", "objectness")


class DrawnRegions:
    """Parts: ``proposals`` (a picture to features and what every place says), ``regions`` (features and boxes to a
    vector each) and ``text``, whose rows lie in the space of the regions: RegionCLIP (arXiv 2112.09106)."""

    takes_examples = True

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        card, pipeline = model.card, model.card.pipeline
        assert pipeline is not None
        self._proposals, self._regions = model.parts["proposals"], model.parts["regions"]
        self._names = DrawnNames(model, rows)
        self._presence = None if card.detection is None else card.detection.presence
        if self._proposals.card.image is None:
            raise model_invalid(f"{card.name}: its proposals take no pictures.", "Pull it again.")
        self._place = preprocessor(self._proposals.card.image)
        self._weights = Weights.of(card.name, pipeline.parameters)

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.OpenVocabulary`."""

        async def see(example: Example) -> Array:
            shown = example.picture
            outputs = await run_images(self._proposals, [shown], OUTPUTS[:1], options, stages)
            placed = self._place.placement(shown.width, shown.height)
            box = placed.boxes_to_tensor(np.array([example.box], np.float32))
            return np.asarray((await self._vectors(outputs["features"], box, options, stages))[0])

        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            names = await self._names.of_labels(vocabulary, see, options, stages)
            outputs = await run_images(self._proposals, [picture], OUTPUTS, options, stages)
            deltas, centerness, objectness = (as_float32(outputs[name][0]) for name in OUTPUTS[1:])
            placed = self._place.placement(picture.width, picture.height)
            found = proposals(deltas, centerness, objectness, placed.shape[0], most=PROPOSALS, iou=OVERLAP)
            scores = np.zeros((len(found.boxes), len(names)), np.float32)
            if len(found.boxes):
                seen = await self._vectors(outputs["features"], found.boxes, options, stages)
                begin = time.perf_counter()
                scores = await asyncio.to_thread(named, found.sure, seen, names, self._weights)
                stages.encode += time.perf_counter() - begin
            scores = suppressed(scores, vocabulary)
            boxes = placed.boxes_to_picture(found.boxes)
            yield Found(boxes, scores, present(scores, self._presence), proposals=len(boxes))

    async def _vectors(self, features: Tensor, boxes: Array, options: Options, stages: Stages) -> Array:
        """Unit rows ``(N, D)`` of boxes of the tensor."""
        inputs = {"features": as_float32(features), "boxes": as_float32(boxes[None])}
        answer = await self._regions.infer(inputs, ("region_features",), options)
        stages.ran(answer)
        return unit(as_float32(answer.outputs["region_features"][0]))
