"""Plots can be told apart: a colour a model and protocol, and a legend that hides nothing."""

import pytest
from matplotlib.figure import Figure

from services.evaluation.reports.plots import MAKERS, draw, fill
from services.evaluation.reports.results import Cell

PROTOCOLS = {"zero-shot": None, "probe": "linear_probe", "lora": "lora", "full": "full"}


def cell(model, protocol, shots, dataset="a"):
    mean = 0.5 + 0.01 * len(model) + 0.001 * (shots or 50)
    trained = 0 if shots == 0 else 1000 * len(protocol)
    return Cell(
        model, dataset, protocol, PROTOCOLS[protocol], None, shots, "accuracy", mean, 0.02, (0,), (mean,), trained, 9, 1
    )


TABLE = [
    cell("m" * n, protocol, shots)
    for n in range(1, 4)
    for protocol in PROTOCOLS
    for shots in ((0,) if protocol == "zero-shot" else (5, 20, None))
]


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_legend_lies_beside_the_plot(name):
    figure = Figure(layout="constrained")
    assert fill(figure, MAKERS[name], TABLE)
    figure.draw_without_rendering()
    [legend], [axes] = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    assert figure.bbox.contains(*legend.get_window_extent().p0)


def test_every_model_and_protocol_has_a_colour_of_its_own():
    figure = Figure()
    fill(figure, MAKERS["shots.png"], TABLE)
    lines = figure.axes[0].get_lines()
    assert len(lines) == 12 == len({line.get_color() for line in lines})


def test_a_plot_that_would_show_nothing_is_left_out():
    assert set(draw([cell("m", "zero-shot", 0)])) == {"datasets.png"}
    assert set(draw(TABLE)) == set(MAKERS)
