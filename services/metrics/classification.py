"""The four metrics of ELEVATER's image classification, with the toolkit's conventions.

Reference: ``vision_benchmark/evaluation/metric.py`` (Elevater_Toolkit_IC) over vision-evaluation 0.2.9. All take
``labels`` ``(N,)`` int (or ``(N, C)`` 0/1 for several labels) and ``scores`` ``(N, C)`` float, and return 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score

Array = NDArray[np.float64]
Metric = Callable[[NDArray[np.int64], Array], float]


class MetricError(ValueError):
    """The metric does not fit the labels or scores; the message says what it takes."""


class ScoresNotFinite(MetricError, FloatingPointError):
    """NaN or infinity among the scores."""


def accuracy(labels: NDArray[np.int64], scores: Array) -> float:
    """Share of rows whose highest score is the label's; ties go to the lowest class."""
    _single(labels, "accuracy")
    return float(np.mean(scores.argmax(axis=1) == labels))


def mean_per_class(labels: NDArray[np.int64], scores: Array) -> float:
    """Mean over classes of the recall of each.

    As in the toolkit, columns of classes that no label names are removed before the argmax, so that such a class
    cannot be predicted. This is more lenient than scikit-learn's balanced accuracy on the same scores.
    """
    _single(labels, "mean-per-class")
    present, own = np.unique(labels, return_inverse=True)
    hits = scores[:, present].argmax(axis=1) == own
    return float(np.mean(np.bincount(own, weights=hits) / np.bincount(own)))


def map_11_points(labels: NDArray[np.int64], scores: Array) -> float:
    """Mean over classes with a positive of the 11-point interpolated average precision (Pascal VOC 2007).

    Labels ``(N,)`` are expanded to one column a class. 0 where no class has a positive.
    """
    targets = labels if labels.ndim == 2 else np.eye(scores.shape[1], dtype=np.int64)[labels]
    if targets.shape != scores.shape:
        raise MetricError(f"11point_mAP: labels have the shape {targets.shape} and scores {scores.shape}")
    precisions = [_average_precision(targets[:, c], scores[:, c]) for c in np.flatnonzero(targets.any(axis=0))]
    return float(np.mean(precisions)) if precisions else 0.0


def _average_precision(target: NDArray[np.int64], score: Array) -> float:
    precision, recall, _ = precision_recall_curve(target, score)
    # Tenths as i / 10: np.linspace(0, 1, 11) has 0.30000000000000004, which a recall of 3/10 does not reach.
    return float(np.mean([precision[recall >= tenth / 10].max() for tenth in range(11)]))


def roc_auc(labels: NDArray[np.int64], scores: Array) -> float:
    """Area under the ROC curve of column 1 of two; ``nan`` when only one class occurs.

    Scores of another width go to scikit-learn as they are, as in the toolkit: it takes one column, or a column of
    labels for each.
    """
    return float(roc_auc_score(labels, scores[:, 1] if scores.shape[1] == 2 else scores))


def _single(labels: NDArray[np.int64], name: str) -> None:
    if labels.ndim != 1:
        raise MetricError(f"{name} takes one label a row; for several labels use 11point_mAP")


TOOLKIT: dict[str, Metric] = {
    "accuracy": accuracy,
    "mean-per-class": mean_per_class,
    "11point_mAP": map_11_points,
    "roc_auc": roc_auc,
}
"""By the names that ELEVATER's data set files use; whatever the toolkit takes, they take."""


def _checked(name: str, metric: Metric) -> Metric:
    """``metric`` where its value means something.

    A network that diverged must not score by where NaN sorts, nor a set without a positive 0 percent.
    """

    @wraps(metric)
    def checked(labels: NDArray[np.int64], scores: Array) -> float:
        if not np.isfinite(scores).all():
            raise ScoresNotFinite("the scores are not finite: the training diverged")
        if name == "roc_auc":
            if scores.ndim != 2 or scores.shape[1] != 2 or labels.ndim != 1:
                raise MetricError(f"roc_auc takes two score columns and one label a row; scores have {scores.shape}")
            if len(np.unique(labels)) < 2:
                return float("nan")
        if name == "11point_mAP" and labels.ndim == 2 and not labels.any():
            raise MetricError("11point_mAP: no class has a positive label")
        return metric(labels, scores)

    return checked


METRICS: dict[str, Metric] = {name: _checked(name, metric) for name, metric in TOOLKIT.items()}
"""The same, refusing what they cannot say anything about."""
