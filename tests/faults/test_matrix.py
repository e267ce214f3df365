"""The table of faults: its cells are those that are promised, and it goes where the page wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.scenarios import SCENARIOS, Outcome

PAGE = "# Page\n\nbefore\n\n<!-- table: faults -->\nold\n<!-- end: faults -->\n\nafter\n"


def outcomes(error: str | None = None) -> Iterator[Outcome]:
    yield Outcome("kill -9 worker", "idle", 200, 1.23, 40.0)
    yield Outcome("kill -9 worker", "mid-step", 200, None, 90.0, error)


def test_every_process_is_killed_in_every_moment() -> None:
    cells = {(scenario.fault, scenario.when) for scenario in SCENARIOS}
    for role in ("child", "worker", "broker", "gateway", "launcher", "maintenance"):
        for when in ("idle", "mid-step", "mid-checkpoint", "after result, before ack"):
            assert (f"kill -9 {role}", when) in cells
    assert len(cells) == len(SCENARIOS)
    limited = {scenario.fault for scenario in SCENARIOS if scenario.within == 15}
    assert limited == {"kill -9 child", "kill -9 worker"}


def test_the_table_is_written_between_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(matrix, "run", lambda *_: outcomes())
    assert matrix.main(["--write", str(page)]) == 0
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# Page\n\nbefore\n\n<!-- table: faults -->\n| fault | when |")
    assert "| kill -9 worker | idle | 200 | yes | 1.2 s | 40 s |\n" in text
    assert text.endswith("<!-- end: faults -->\n\nafter\n")
    assert "| kill -9 worker | mid-step | 200 | yes | - | 90 s |" in capsys.readouterr().out


def test_a_failure_is_in_the_table_and_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(matrix, "run", lambda *_: outcomes("one job was lost"))
    assert matrix.main(["--write", str(page)]) == 1
    assert "**no**: one job was lost" in page.read_text()


def test_a_page_without_marks_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    monkeypatch.setattr(matrix, "run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match="table: faults"):
        matrix.main(["--write", str(page)])
