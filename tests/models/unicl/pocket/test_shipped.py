"""What ships: the weights answer as they did when they were measured, and page and cards say what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.catalog.catalog import Catalog
from models.errors import ModelError
from models.unicl.pocket.augment import flattened
from models.unicl.pocket.export import WEIGHTS, read_pocket
from models.unicl.pocket.network import SIZE, PocketUniCL
from models.unicl.pocket.report import COMPARISON, LOG, MEASURES, comparison_table, curve, measure_table
from models.unicl.report import replaced

ROOT = Path(__file__).parents[4]
RESULTS = ROOT / "docs" / "models" / "unicl-pocket"
CATALOG = Catalog.read()


@pytest.fixture(scope="module")
def model() -> PocketUniCL:
    return read_pocket(WEIGHTS, str(CATALOG.entry("unicl-pocket-image").options["weights"]))


def test_stored_predictions_are_reproduced(model: PocketUniCL) -> None:
    stored = load_file(RESULTS / "examples.safetensors")
    names = json.loads((RESULTS / "examples.json").read_text())
    drawings = [Image.open(ROOT / "examples/data/drawings" / f"{name.replace(' ', '-')}.png") for name in names]
    pixels = torch.from_numpy(np.stack([np.asarray(drawing.convert("RGBA")) for drawing in drawings]))
    with torch.no_grad():
        images = model.embed_images(flattened(pixels, SIZE, None))
        texts = model.text(stored["sentences"])
    torch.testing.assert_close(images, stored["images"], atol=2e-3, rtol=0)
    torch.testing.assert_close(texts, stored["texts"], atol=2e-3, rtol=0)
    assert (images @ texts.T).argmax(dim=1).tolist() == list(range(len(names)))


def test_other_weights_than_the_catalogs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(WEIGHTS.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="not the file that the catalog means"):
        read_pocket(tmp_path / "weights", str(CATALOG.entry("unicl-pocket-image").options["weights"]))


def test_both_towers_are_of_the_same_weights_and_small() -> None:
    hashes = {CATALOG.entry(f"unicl-pocket-{tower}").options["weights"] for tower in ("image", "text")}
    for tower in ("image", "text"):
        hashes.add(CATALOG.entry(f"unicl-pocket-{tower}").card.provenance[0].sha256)
    assert len(hashes) == 1 and WEIGHTS.stat().st_size < 10_000_000


def test_page_and_curve_are_what_was_measured() -> None:
    rows = json.loads((RESULTS / MEASURES).read_text())
    page = (ROOT / "docs/models/unicl-pocket.md").read_text()
    assert replaced(page, "measures", measure_table(rows)) == page
    runs = json.loads((RESULTS / COMPARISON).read_text())
    assert replaced(page, "comparison", comparison_table(runs)) == page
    log = [json.loads(line) for line in (RESULTS / LOG).read_text().splitlines()]
    assert (RESULTS / "curve.svg").read_text() == curve(log)


def test_card_says_what_was_measured() -> None:
    rows = json.loads((RESULTS / MEASURES).read_text())
    figures = CATALOG.entry("unicl-pocket").card.measured
    assert len(figures) >= 6
    for figure in figures:
        measure, background = figure.dataset.rsplit(", on ", 1)
        (row,) = [row for row in rows if (row["measure"], row["background"]) == (measure, background)]
        wanted = row["top1"] if figure.metric == "top-1 accuracy" else row["top5"]
        assert figure.n == row["ways"] and figure.value == pytest.approx(wanted / 100, abs=6e-4)
        assert figure.error == pytest.approx(math.sqrt(figure.value * (1 - figure.value) / row["ways"]), abs=6e-4)
