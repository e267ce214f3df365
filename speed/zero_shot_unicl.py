"""``unicl-lite2`` as a method of ``speed.zero_shot``: trained anew for every set of known classes.

A concept with pictures that is a hidden class, is below one, or is called nearly the same goes with it: a drawing of
what is hidden would be an example of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.unicl.lite2.export import arrays
from models.unicl.lite2.network import PhotoUniCL
from models.unicl.lite2.space import Space
from models.unicl.lite2.train import Recipe, fit
from models.zero_shot.fit import Array, Classifier
from models.zero_shot.nouns import Hierarchy, Nouns
from services.encoding.meanings import Evidence
from services.encoding.shared_space import SharedSpace
from speed.zero_shot_data import Pictures
from speed.zero_shot_methods import UNCALIBRATED, Indices, Texts
from speed.zero_shot_tasks import EVERY

SAME_NAME = 0.8
"""Cosine of two names from which on they are taken for the same thing."""
SERVED: Mapping[str, float] = {"class_share": 0.5, "rank_penalty": 0.1}


class Fitted:
    """One trained network with the arithmetic that serves it."""

    def __init__(self, model: PhotoUniCL, data: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        self._model = model
        self._space = SharedSpace(data, {**parameters, **UNCALIBRATED})
        self._see = model.see.detach().numpy()
        self.lexicon = self._space.lexicon

    @torch.no_grad()
    def rows(self, labels: Sequence[str], texts: Array) -> Array:
        return self._space.rows(labels, self._model.text(torch.from_numpy(texts)).numpy())

    @torch.no_grad()
    def texts_alone(self, texts: Array) -> Array:
        """Rows that no dictionary had a part in, as ``/v1/embeddings`` gives them."""
        placed: Array = self._model.text(torch.from_numpy(texts)).numpy()
        return np.concatenate([placed, np.full((len(placed), 1), -1, np.float32)], axis=1)

    def evidence(self, features: Array, logits: Array, rows: Array, sides: Array) -> Evidence:
        """``logits`` are not looked at."""
        return self._space.evidence(features @ self._see, rows, sides)


class Trained:
    """What the platform serves as ``unicl-lite2``, trained on the known classes alone."""

    def __init__(
        self, space: Space, classifier: Classifier, nouns: Nouns, sides: Array, shifts: Array, texts: Texts,
        recipe: Recipe | None = None, **changes: float,
    ) -> None:  # fmt: skip
        self._set, self._classifier, self._nouns, self._hierarchy = space, classifier, nouns, Hierarchy(nouns)
        self._sides, self._shifts, self._texts = sides, shifts, texts
        self._recipe, self._parameters = recipe or Recipe(), {**SERVED, **changes}
        self._models: dict[bytes, PhotoUniCL] = {}  # 15 MB each: several methods and tasks ask for the same splits
        self._kept: dict[bytes, Fitted] = {}

    def predictor(self, known: Indices) -> Fitted:
        key = known.tobytes()
        if key not in self._kept:
            for other in [one for one in self._kept if one != EVERY.tobytes()]:
                del self._kept[other]  # splits come one after the other
            own, hidden = self._classifier.only(known), np.setdiff1d(EVERY, known)
            if key not in self._models:
                torch.set_num_threads(1)
                drawn = self._set.without(self._drawn(hidden))
                self._models[key], _ = fit(drawn, own, self._nouns, self._hierarchy, self._recipe)
            model = self._models[key]
            data = arrays(model, own, self._nouns, self._hierarchy, self._sides, self._shifts)
            self._kept[key] = Fitted(model, data, self._parameters)
        return self._kept[key]

    def _drawn(self, hidden: Indices) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """``(C,)``: the concepts that show a hidden class."""
        synsets = set(self._nouns.imagenet[hidden].tolist())
        below = [s >= 0 and bool(self._hierarchy.ancestors(s) & synsets) for s in self._set.concept_synsets.tolist()]
        if not len(hidden):
            return np.array(below)
        alike = (self._set.concepts @ self._classifier.texts[hidden].T).max(axis=1) >= SAME_NAME
        return np.array(below) | alike

    def rows(self, known: Indices, labels: Sequence[str]) -> Array:
        return self.predictor(known).rows(labels, self._texts(labels))

    def __call__(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        rows = self.rows(known, labels)
        return (
            self.predictor(known).evidence(pictures.features, pictures.logits[:, known], rows, pictures.sides).cosines
        )

    def texts_alone(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        fitted = self.predictor(known)
        rows = fitted.texts_alone(self._texts(labels))
        return fitted.evidence(pictures.features, pictures.logits[:, known], rows, pictures.sides).cosines
