"""From probabilities to a score, and how far it may be off because there are only so many test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.datasets.package import Stored
from services.errors import Kind, Problem
from services.evaluation.suites.registry import SuiteSet
from services.finetuning.data.examples import Examples, one_hot
from services.metrics.classification import METRICS, MetricError

RESAMPLES = 100
SEED = 0


def scored(spec: SuiteSet, test: Sequence[Stored], probabilities: NDArray[np.float32]) -> tuple[float, float]:
    """Score ``(N, C)`` probabilities of the images ``test`` by the set's metric: the value and its standard error.

    Raises ``metric-misfit`` and ``metric-undefined``.
    """
    labels = [stored.sample.labels for stored in test]
    if spec.task == "multilabel":
        truth = one_hot(Examples(probabilities, labels), len(spec.classes))
    else:
        truth = np.array([own[0] for own in labels], np.int64)

    scores = probabilities.astype(np.float64)
    try:
        value = METRICS[spec.metric](truth, scores)
    except MetricError as error:
        raise Problem(
            Kind.INVALID,
            "metric-misfit",
            "The metric does not fit the data set",
            f"{error}.",
            pointer="/parameters/metric",
        ) from error
    if not np.isfinite(value):
        raise Problem(
            Kind.INVALID,
            "metric-undefined",
            "The metric has no value on these test images",
            f"{spec.metric} is not defined where only one class occurs.",
            remedy="Raise test_limit, or add test images of the other classes.",
        )
    return value, standard_error(spec.metric, truth, scores)


def standard_error(metric: str, labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Estimate the standard error of ``metric``: binomial for accuracy and mean-per-class, else by a bootstrap."""
    if metric == "accuracy":
        hits = scores.argmax(axis=1) == labels
        return float(np.sqrt(hits.mean() * (1 - hits.mean()) / len(hits)))

    if metric == "mean-per-class":
        present, own = np.unique(labels, return_inverse=True)
        hits = scores[:, present].argmax(axis=1) == own
        count = np.bincount(own)
        recall = np.bincount(own, weights=hits) / count
        return float(np.sqrt(np.sum(recall * (1 - recall) / count)) / len(count))

    generator, values = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES):
        chosen = generator.integers(0, len(labels), len(labels))
        try:
            values.append(METRICS[metric](labels[chosen], scores[chosen]))
        except MetricError:
            continue  # a resample without a positive has no value
    known = np.array([value for value in values if np.isfinite(value)])
    return float(known.std(ddof=1)) if len(known) > 1 else 0.0
