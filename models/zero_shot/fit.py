"""Fits the regression from meanings to weight rows, and lays out the arrays that serving reads.

Predicting a classifier's weights from a description of the class: Elhoseiny et al. 2013 (arXiv 1401.0104), DeViSE and
ConSE's successors; kernel ridge over two summed Gaussian kernels is the posterior mean of a Gaussian process. The
classes below a label vote as in hierarchical classifiers (Deng et al. 2012, "Hedging your bets"). Which parts earn
their place was measured by ``speed/zero_shot.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.zero_shot.nouns import Hierarchy, Nouns

Array = NDArray[np.float32]

AXES = 384
"""Of the weight rows: 256 already lose a point on hidden classes, all 1000 gain nothing."""
RIDGE = 0.3
OWN_MEANING = 0.5
"""A label that subsumes classes means half its definition, half the mean of those classes' definitions."""
PARAMETERS: Mapping[str, float] = {
    "text_width": 4.0,
    "knowledge_width": 3.0,
    "text_weight": 0.5,
    "class_share": 0.5,
    "rank_penalty": 0.1,
}
"""Chosen on classes that the reported figures do not contain; see docs/models/photo-zero-shot.md."""


@dataclass(frozen=True)
class Classifier:
    """The last layer: ``weight (N, F)``, ``bias (N,)``; ``names`` and unit ``texts (N, D)`` of its classes, and where
    they stand in ``Nouns.imagenet``."""

    weight: Array
    bias: Array
    names: Sequence[str]
    texts: Array
    classes: NDArray[np.intp]

    def only(self, keep: NDArray[np.intp]) -> Classifier:
        """The same without the other classes: what is measured as hidden must not be fitted."""
        names = [self.names[index] for index in keep]
        return Classifier(self.weight[keep], self.bias[keep], names, self.texts[keep], self.classes[keep])


def fit(
    classifier: Classifier,
    nouns: Nouns,
    hierarchy: Hierarchy,
    sides: Array,
    shifts: Array,
    parameters: Mapping[str, float] = PARAMETERS,
) -> dict[str, NDArray[Any]]:
    """The arrays of ``services.classification.weight_prediction.Predictor``.

    ``shifts (K, F)``: how the features of a photo move when it is shrunk to ``sides (K,)`` pixels; the last is zero.
    """
    synsets = nouns.imagenet[classifier.classes]
    below = hierarchy.classes_below(synsets)
    vectors = nouns.unit_vectors()
    meanings = vectors[synsets]
    kernel = _bell(meanings @ meanings.T, parameters["knowledge_width"])
    kernel += parameters["text_weight"] * _bell(classifier.texts @ classifier.texts.T, parameters["text_width"])
    centred = classifier.weight.astype(np.float64) - classifier.weight.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    basis = axes[:AXES].T
    coefficients = np.linalg.solve(kernel + RIDGE * np.eye(len(kernel)), centred @ basis)
    norms = np.linalg.norm(centred, axis=1)

    return {
        "class_texts": classifier.texts.astype(np.float16),
        "class_meanings": meanings.astype(np.float16),
        "class_rows": (centred @ basis / norms[:, None]).astype(np.float16),
        "coefficients": np.ascontiguousarray(coefficients, np.float32),
        "basis": np.ascontiguousarray(basis, np.float32),
        "bias": classifier.bias.astype(np.float32),
        "norms": norms.astype(np.float32),
        "shift_logits": (shifts @ classifier.weight.T).astype(np.float32),
        **meaning_arrays(classifier, nouns, hierarchy, sides, shifts),
        "vectors": _leaning(nouns, vectors, below, meanings),
    }


def meaning_arrays(
    classifier: Classifier, nouns: Nouns, hierarchy: Hierarchy, sides: Array, shifts: Array
) -> dict[str, NDArray[Any]]:
    """The arrays of ``services.encoding.meanings.Meanings``: the lexicon, and which classes are below what.

    ``shifts (K, F)`` may be in any space that pictures are compared in.
    """
    synsets = nouns.imagenet[classifier.classes]
    below = hierarchy.classes_below(synsets)
    counts = np.zeros(hierarchy.size + 1, np.int64)
    for synset, own in below.items():
        counts[synset + 1] = len(own)

    return {
        "class_names": np.frombuffer("\n".join(classifier.names).encode(), np.uint8),
        "class_synsets": synsets,
        "vectors": nouns.vectors,
        "scale": nouns.scale,
        "below_start": np.cumsum(counts).astype(np.uint32),
        "below": np.array([one for synset in sorted(below) for one in below[synset]], np.uint16),
        "shift_sides": sides.astype(np.float32),
        "shifts": shifts.astype(np.float16),
        "lemmas": np.frombuffer("\n".join(nouns.lemmas).encode(), np.uint8),
        "sense_start": nouns.sense_start,
        "sense_synset": nouns.sense_synset,
        "sense_rank": nouns.sense_rank,
        "nearness": hierarchy.nearness(synsets).astype(np.float16),
    }


def _bell(cosines: NDArray[np.float32], width: float) -> NDArray[np.float64]:
    return np.exp(width * (cosines.astype(np.float64) - 1))


def _leaning(nouns: Nouns, vectors: Array, below: Mapping[int, Sequence[int]], meanings: Array) -> NDArray[np.int8]:
    """The quantised vectors, those of synsets that subsume several classes leaning towards these classes."""
    quantised = nouns.vectors.copy()
    for synset, own in below.items():
        if len(own) > 1:
            centre = meanings[list(own)].mean(axis=0)
            mixed = (1 - OWN_MEANING) * vectors[synset] + OWN_MEANING * centre / np.linalg.norm(centre)
            steps = mixed / nouns.scale
            # Only the direction counts, so that it may fill the range of int8.
            quantised[synset] = np.round(steps * (127 / np.abs(steps).max()))
    return quantised
