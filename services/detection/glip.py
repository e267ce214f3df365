"""GLIP over its three graphs: pictures and sentences to boxes (arXiv 2112.03857).

Every run reads one sentence and one picture together, so that a picture's boxes depend on what is asked for; texts and
pictures are each computed once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.glip.postprocess import Candidates, HeadArrays, candidates
from services.detection.glip_prompts import Asked, asked_of_caption, asked_of_labels
from services.detection.protocol import MOST_BOXES, Array, Caption, Found, Vocabulary, present, suppressed
from services.encoding.class_rows import ClassRows
from services.encoding.images import preprocessor, run_images
from services.encoding.texts import fingerprint
from services.media.image import Picture
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle, Options, Tensor, as_float32
from services.stages import Stages
from services.text.tokenizer import Tokenizer

OUTPUTS = ("logits", "deltas", "centerness")


@dataclass(frozen=True, slots=True)
class Pyramid:
    """A picture's levels by name, ``(1, C, h, w)`` each, and the height and width of the picture in the tensor."""

    levels: Mapping[str, Tensor]
    size: tuple[int, int]


class Glip:
    """Parts: ``text``, token features of a prompt; ``image``, the levels of a picture; ``head``, both to logits."""

    takes_examples = False

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        self._text, self._image, self._head = (model.parts[role] for role in ("text", "image", "head"))
        if self._text.card.text is None or self._image.card.image is None:
            raise model_invalid(f"{model.card.name}: its parts read no text or no picture.", "Pull it again.")
        self._tokenizer = Tokenizer(self._text.folder, self._text.card.text)
        self._kept, self._fingerprint = rows.texts, fingerprint(self._text)
        self._place = preprocessor(self._image.card.image).placement
        self._levels = [spec.name for spec in self._image.card.outputs]
        self._presence = None if model.card.detection is None else model.card.detection.presence

    async def detect(
        self, pictures: Sequence[Picture], vocabularies: Sequence[Vocabulary], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.OpenVocabulary`; labels that fit no one sentence take several."""
        planned: dict[int, list[Asked]] = {}
        for picture, vocabulary in zip(pictures, vocabularies, strict=True):
            runs = planned.get(id(vocabulary))
            if runs is None:
                texts = vocabulary.texts
                runs = planned[id(vocabulary)] = await asyncio.to_thread(asked_of_labels, self._tokenizer, texts)
            boxes, scores = await self._boxes(picture, runs, len(vocabulary.texts), options, stages)
            yield self._found(picture, boxes, suppressed(scores, vocabulary), runs)

    async def ground(
        self, pictures: Sequence[Picture], captions: Sequence[Caption], options: Options, stages: Stages
    ) -> AsyncGenerator[Found, None]:
        """See :class:`services.detection.protocol.GroundsCaptions`."""
        for picture, caption in zip(pictures, captions, strict=True):
            asked = asked_of_caption(self._tokenizer, caption)
            boxes, scores = await self._boxes(picture, [asked], len(caption.spans), options, stages)
            yield self._found(picture, boxes, scores, [asked])

    async def _boxes(
        self, picture: Picture, runs: Sequence[Asked], columns: int, options: Options, stages: Stages
    ) -> tuple[Array, Array]:
        """Boxes ``(N, 4)`` in pixels of the tensor and scores ``(N, columns)``, those of every run together."""
        pyramid = await self._pyramid(picture, options, stages)
        boxes, scores = [], []
        for asked in runs:
            found = await self._run(pyramid, asked, options, stages)
            own = np.zeros((len(found.boxes), columns), np.float32)
            own[:, asked.first : asked.first + len(asked.tokens)] = found.scores
            boxes.append(found.boxes)
            scores.append(own)
        return np.concatenate(boxes), np.concatenate(scores)

    async def _pyramid(self, picture: Picture, options: Options, stages: Stages) -> Pyramid:
        outputs = await run_images(self._image, [picture], self._levels, options, stages)
        placed = self._place(picture.image.width, picture.image.height)
        return Pyramid(outputs, (placed.height, placed.width))

    async def _run(self, pyramid: Pyramid, asked: Asked, options: Options, stages: Stages) -> Candidates:
        """One sentence and one picture to what may be a box."""
        mask = np.ones((1, len(asked.ids)), np.int64)
        inputs = {**pyramid.levels, "tokens": await self._tokens(asked, options, stages), "attention_mask": mask}
        answer = await self._head.infer(inputs, OUTPUTS, options)
        stages.ran(answer)

        begin = time.perf_counter()
        shapes = [(tensor.shape[2], tensor.shape[3]) for tensor in pyramid.levels.values()]
        found = await asyncio.to_thread(_candidates, answer.outputs, shapes, asked, pyramid.size)
        stages.encode += time.perf_counter() - begin
        return found

    async def _tokens(self, asked: Asked, options: Options, stages: Stages) -> Array:
        """What the head reads of a text, ``(1, T, D)``; kept."""

        async def compute() -> Array:
            inputs = self._tokenizer.pack([asked.ids])
            answer = await self._text.infer(inputs, ("tokens",), options)
            stages.ran(answer)
            return as_float32(answer.outputs["tokens"])

        return await self._kept.get(("glip-tokens", self._fingerprint, asked.text), compute, deadline=options.deadline)

    def _found(self, picture: Picture, boxes: Array, scores: Array, runs: Sequence[Asked]) -> Found:
        proposals = len(boxes)
        if proposals > MOST_BOXES:
            best = scores.max(axis=1, initial=0)
            likely = np.sort(np.argpartition(-best, MOST_BOXES)[:MOST_BOXES])
            boxes, scores = boxes[likely], scores[likely]
        placed = self._place(picture.image.width, picture.image.height)
        return Found(
            placed.boxes_to_picture(boxes),
            scores,
            present(scores, self._presence),
            proposals=proposals,
            tokens=sum(len(asked.ids) for asked in runs),
            chunks=len(runs),
        )


def _candidates(
    outputs: Mapping[str, Tensor], shapes: Sequence[tuple[int, int]], asked: Asked, size: tuple[int, int]
) -> Candidates:
    """Outputs of the head, whose places are all levels one after the other, to candidates of the one picture."""
    ends = np.cumsum([height * width for height, width in shapes])[:-1]
    logits, deltas, centerness = (np.split(as_float32(outputs[name][0]), ends) for name in OUTPUTS)
    head = HeadArrays(
        logits,
        [part.T.reshape(4, *shape) for part, shape in zip(deltas, shapes, strict=True)],
        [part.reshape(1, *shape) for part, shape in zip(centerness, shapes, strict=True)],
    )
    return candidates(head, asked.tokens, size)
