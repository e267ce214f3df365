"""The dashboards' files are those that the boards build, and ask for nothing that nobody exports."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.grafana import build
from deploy.grafana.boards import BOARDS
from tests.support import exported
from tests.support.programs import program
from tests.support.promql import metrics_of

RULES = sorted((Path(__file__).parents[2] / "deploy" / "prometheus" / "rules").glob("*.yml"))


def rules() -> list[dict[str, str]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_the_committed_dashboards_are_those_that_the_boards_build() -> None:
    built = build.documents()
    committed = {path.name: path.read_text() for path in build.DASHBOARDS.glob("*.json")}
    assert committed.keys() == built.keys(), "run: python -m deploy.grafana.build"
    for name, text in built.items():
        assert committed[name] == text, f"{name}: run python -m deploy.grafana.build"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_do_not_overlap_and_their_ids_are_their_own(board: object) -> None:
    document = json.loads(build.documents()[f"{board.name}.json"])  # type: ignore[attr-defined]
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    assert document["uid"] == f"sightline-{board.name}"  # type: ignore[attr-defined]


def test_every_metric_that_is_asked_for_is_one_that_somebody_exports(tmp_path: Path) -> None:
    known = exported.own(tmp_path) | exported.WATCHING | exported.TRITON | exported.GPU
    known |= exported.CELERY | exported.REDIS | {rule["record"] for rule in rules() if "record" in rule}
    asked = {(rule.get("record") or rule["alert"]): rule["expr"] for rule in rules()}
    for board in BOARDS:
        asked |= {f"{board.title}: {panel.title} {n}": q for panel in board.panels for n, q in panel.queries.items()}
    for where, expression in asked.items():
        assert metrics_of(expression) <= known, where


def test_every_metric_of_other_programs_in_the_list_is_asked_for() -> None:
    """Else the list would grow stale, and the check above lenient."""
    asked = [rule["expr"] for rule in rules()]
    asked += [query for board in BOARDS for panel in board.panels for query in panel.queries.values()]
    listed = exported.WATCHING | exported.TRITON | exported.GPU | exported.CELERY | exported.REDIS
    assert listed - {name for expression in asked for name in metrics_of(expression)} == set()


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    queries = [query for board in BOARDS for panel in board.panels for query in panel.queries.values()]
    recorded = [
        {"record": f"check:{number}", "expr": query.replace("$rate", "1m").replace("$model", ".*")}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (a, b) (rate(x_total{c="y"}[5m])) / on (a) group_left (z) w_sum > 2', {"x_total", "w_sum"}),
        ('absent(up{job="gateway"} == 1) or vector(0)', {"up"}),
        ("a:b:rate5m > 14.4 * 0.001 and c", {"a:b:rate5m", "c"}),
        ("increase(m_total[$rate]) offset 5m", {"m_total"}),
    ],
)
def test_metric_names_are_found_in_promql(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names
