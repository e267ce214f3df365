"""Metrics equal the ELEVATER toolkit's on its fixtures, quirks included."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from services.benchmark.metrics import METRICS, MetricError

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


def test_a_metric_that_does_not_fit_says_what_it_takes():
    with pytest.raises(MetricError, match="one label a row"):
        METRICS["accuracy"](np.ones((2, 2), np.int64), np.ones((2, 2)))
