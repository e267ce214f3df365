"""The page docs/models/unicl.md says what the code says, and its example is a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.unicl import report
from models.unicl.config_file import from_json
from models.unicl.report import main, release_table, replaced, size_table

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "models" / "unicl.md").read_text(encoding="utf-8")


def table(name: str) -> list[str]:
    return PAGE.split(f"<!-- table: {name} -->\n")[1].split(f"\n<!-- end: {name} -->")[0].splitlines()


@pytest.fixture(scope="module")
def sizes() -> list[str]:
    return list(size_table())


@pytest.mark.slow
def test_sizes_are_those_of_the_networks(sizes: list[str]) -> None:
    assert table("sizes") == sizes


def test_published_checkpoints_are_those_of_the_catalog() -> None:
    assert table("releases") == list(release_table())


def test_every_fixture_of_the_line_has_a_row_and_none_failed() -> None:
    rows = table("parity")[2:]
    parity = ROOT / "tests" / "parity"
    names = {
        path.name for line in ("unicl", "focalnet", "resnet") for path in parity.glob(f"{line}_*") if path.is_dir()
    }
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == names | {"unicl_loss", "clip_tokenizer"}
    assert all(row.endswith("| ok |") for row in rows)


def test_example_configuration_is_a_network() -> None:
    (example,) = re.findall(r'^    (\{"image": \{"backbone".*?"dim": \d+\})$', PAGE, re.MULTILINE | re.DOTALL)
    assert from_json(example).dim == 256


def test_report_writes_its_tables_between_the_marks(
    tmp_path: Path, sizes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "size_table", lambda: sizes)
    page = tmp_path / "page.md"
    page.write_text("\n".join(f"<!-- table: {n} -->\n<!-- end: {n} -->" for n in ("parity", "sizes", "releases")))
    main([str(ROOT / "tests" / "parity" / "focalnet_timm"), "--write", str(page)])
    assert "| focalnet_timm | 2 |" in page.read_text()
    assert "\n".join(sizes) in page.read_text()


def test_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        replaced("nothing", "parity", [])
