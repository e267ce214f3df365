"""How far a score may be off because there are only so many test images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.metrics.classification import METRICS, MetricError

RESAMPLES = 100
SEED = 0


def standard_error(metric: str, labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Standard error of ``metric``: binomial for accuracy and mean-per-class, else a bootstrap over the images."""
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
