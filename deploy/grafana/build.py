"""``python -m deploy.grafana.build``: writes the dashboards that Grafana loads, from the boards described here."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common as commons
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import HEIGHT, WIDTH, Board, Panel

DASHBOARDS = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
NUMBER_HEIGHT = 4


def main() -> int:
    DASHBOARDS.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DASHBOARDS / name).write_text(text)
    return 0


def documents() -> dict[str, str]:
    """Every dashboard's file by name."""
    return {
        f"{board.name}.json": JSONEncoder(indent=1, sort_keys=True).encode(_board(board)) + "\n" for board in BOARDS
    }


def _board(board: Board) -> object:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["sightline"])
        .timezone("browser")
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Sightline")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["sightline"])
            .as_dropdown(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    if board.choose is not None:
        label, metric = board.choose
        made = made.with_variable(
            dashboard.QueryVariable(label)
            .label(label.capitalize())
            .datasource(SOURCE)
            .query(f"label_values({metric}, {label})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    top = number = 0
    for row in board.rows:
        number += 1
        made = made.with_row(dashboard.Row(row.title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=top)))
        top += 1
        left = lowest = 0
        for panel in row.panels:
            number += 1
            height = NUMBER_HEIGHT if panel.kind == "number" else HEIGHT
            if left + panel.width > WIDTH:
                left, top = 0, top + lowest
            made = made.with_panel(_panel(panel, number, GridPos(h=height, w=panel.width, x=left, y=top)))
            left, lowest = left + panel.width, height
        top += lowest
    return made.build()


def _panel(panel: Panel, number: int, place: GridPos) -> stat.Panel | timeseries.Panel | heatmap.Panel:
    made: stat.Panel | timeseries.Panel | heatmap.Panel
    match panel.kind:
        case "number":
            latest = commons.ReduceDataOptions().calcs(["lastNotNull"])
            made = stat.Panel().graph_mode(common.BigValueGraphMode.AREA).reduce_options(latest)
            made = made.thresholds(_thresholds(panel))
        case "heat":
            made = heatmap.Panel().calculate(False)
        case _:
            made = _lines(panel)
    made = made.id(number).title(panel.title).description(panel.about).unit(panel.unit)
    made = made.datasource(SOURCE).grid_pos(place)
    for letter, (legend, expression) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression.replace("$rate", "$__rate_interval"))
        if panel.kind == "heat":
            query = query.format(PromQueryFormat.HEATMAP)
        made = made.with_target(query.legend_format(legend or panel.title).datasource(SOURCE))
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().min(0).line_width(1).fill_opacity(10).show_points(common.VisibilityMode.NEVER)
    made = made.tooltip(
        commons.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    made = made.legend(
        commons.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    if panel.kind == "stacked":
        made = made.fill_opacity(40).stacking(commons.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.warn is not None:
        made = made.thresholds(_thresholds(panel)).thresholds_style(
            commons.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        )
    return made


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if panel.warn is not None:
        steps.append(Threshold(value=panel.warn, color="red"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    sys.exit(main())
