"""Metrics equal the ELEVATER toolkit's on its fixtures, quirks included."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from services.metrics.classification import METRICS, TOOLKIT, MetricError

FIXTURE = json.loads((Path(__file__).parents[2] / "parity" / "elevater_metrics.json").read_text())


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda case: case["id"])
def test_metric_equals_the_reference(case):
    labels, scores = np.array(case["labels"]), np.array(case["scores"], np.float64)
    metric = METRICS[case["metric"]]
    if case["expected_error"] == "nan":
        assert math.isnan(metric(labels, scores))
    elif case["expected_error"]:
        with pytest.raises(MetricError):
            metric(labels, scores)
    else:
        assert metric(labels, scores) == pytest.approx(case["expected"], abs=FIXTURE["tolerance"]["metrics"])


NONE = np.zeros((3, 2), np.int64)
SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])


@pytest.mark.parametrize("name", list(METRICS))
def test_scores_that_are_no_numbers_are_refused(name):
    labels = np.eye(2, dtype=np.int64)[[0, 1, 0]] if name == "11point_mAP" else np.array([0, 1, 0])
    METRICS[name](labels, SURE)
    with pytest.raises(MetricError, match="not finite"):
        METRICS[name](labels, np.where(SURE == 0.1, np.nan, SURE))


def test_odd_inputs_give_what_the_toolkit_gives():
    """Each value by vision-evaluation 0.2.9 and scikit-learn 1.9.1."""
    masked = np.where(SURE == 0.1, -np.inf, SURE)
    assert TOOLKIT["accuracy"](np.array([0, 1, 1]), masked) == pytest.approx(2 / 3)
    assert TOOLKIT["mean-per-class"](np.array([0, 1, 1]), masked) == pytest.approx(3 / 4)
    assert TOOLKIT["11point_mAP"](NONE, SURE) == 0.0
    assert TOOLKIT["roc_auc"](np.array([0, 1, 0]), SURE[:, 1:]) == 1.0
    for name in ("11point_mAP", "roc_auc"):
        with pytest.raises(ValueError, match="infinity"):
            TOOLKIT[name](np.array([0, 1, 1]), -masked)


def test_a_set_without_a_positive_has_no_precision():
    with pytest.raises(MetricError, match="no class has a positive"):
        METRICS["11point_mAP"](NONE, SURE)


def test_a_metric_that_does_not_fit_says_what_it_takes():
    with pytest.raises(MetricError, match="one label a row"):
        METRICS["accuracy"](np.ones((2, 2), np.int64), np.ones((2, 2)))
