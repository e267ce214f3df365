"""What ships: one file of weights for all parts, small, and a page and cards that say what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from models.catalog.catalog import Catalog
from models.glip.pocket.report import CURVE, LOG, MEASURES, curve_lines, measure_table
from models.regionclip.pocket.export import WEIGHTS, load
from models.repository.hashing import sha256
from models.unicl.pocket.report import curve
from models.unicl.report import replaced

NAME = "regionclip-pocket"
DOCS = Path(__file__).parents[4] / "docs" / "models"
CATALOG = Catalog.read()


def test_all_parts_are_of_the_shipped_weights_and_these_are_small() -> None:
    parts = [name for name in CATALOG.entry(NAME).requires if name.startswith(NAME)]
    told = {str(CATALOG.entry(part).options["weights"]) for part in parts}
    told |= {str(CATALOG.entry(part).card.provenance[0].sha256) for part in parts}
    assert len(parts) == 2 and told == {sha256(WEIGHTS)}
    assert WEIGHTS.stat().st_size < 10_000_000
    load(WEIGHTS)


def test_page_and_curve_are_what_was_measured() -> None:
    rows = json.loads((DOCS / NAME / MEASURES).read_text())
    page = (DOCS / f"{NAME}.md").read_text()
    assert replaced(page, "measures", measure_table(rows)) == page
    log = [json.loads(line) for line in (DOCS / NAME / LOG).read_text().splitlines()]
    drawn = curve(curve_lines(log)).replace("drawings seen", "scenes seen")
    assert (DOCS / NAME / CURVE).read_text() == drawn


def test_the_card_says_what_was_measured() -> None:
    rows = {row["suite"]: row for row in json.loads((DOCS / NAME / MEASURES).read_text())}
    measured = CATALOG.entry(NAME).card.measured
    assert measured
    keys = {
        "AP50 without names": "without names",
        "AP50 of twenty names": "named",
        "presence AUROC": "presence AUROC",
        "pointing accuracy of relations": "relations",
    }
    for one in measured:
        row = rows[one.dataset.removeprefix("composed scenes, ")]
        assert abs(100 * one.value - row[keys[one.metric]]) < 1e-6
