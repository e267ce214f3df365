"""Open-vocabulary classification with image and text towers of one embedding space (CLIP, UniCL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.classification.protocol import Array, Scored
from services.encoding.cache import ArrayCache
from services.encoding.class_rows import text_rows
from services.encoding.images import unit
from services.encoding.texts import TextEncoder
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages


class DualEncoder:
    """The cosine of picture and label text times a learned temperature.

    Class rows are the mean over templates of unit text embeddings, made unit again (arXiv 2103.00020, section 3.1.4).
    Parameters: ``scale`` (the factor itself, 100 for CLIP), ``bias`` (0), ``none_logit`` (what the best logit of a
    picture that shows none of the labels is; absent when it was not calibrated).
    """

    def __init__(self, model: ModelHandle, cache: ArrayCache | None = None) -> None:
        pipeline = model.card.pipeline
        assert pipeline is not None
        self.image = model.parts["image"]
        embedding = self.image.card.embedding
        assert embedding is not None
        self.image_outputs: tuple[str, ...] = (embedding,)
        self.templates = tuple(pipeline.parameters.get("templates", ("a photo of a {}.",)))
        self._scale = float(pipeline.parameters.get("scale", 100.0))
        self._bias = float(pipeline.parameters.get("bias", 0.0))
        self._none = pipeline.parameters.get("none_logit")
        self.text = TextEncoder(model.parts["text"], cache)

    async def rows(self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages) -> Array:
        return await text_rows(self.text, labels, templates, options, stages)

    async def feature_rows(
        self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        return await self.rows(labels, templates, options, stages)

    def score(self, outputs: Mapping[str, Tensor], rows: Array, sides: Array) -> Scored:
        cosine = unit(outputs[self.image_outputs[0]]) @ rows.T
        logits = np.asarray(self._scale * cosine + self._bias, np.float32)
        if self._none is None:
            return Scored(logits)
        highest = logits.max(axis=1)
        return Scored(logits, np.asarray(1 / (1 + np.exp(highest - float(self._none))), np.float32))
