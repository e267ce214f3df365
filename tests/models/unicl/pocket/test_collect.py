"""``sightline datasets build pictographs``: from pinned packages to a folder that says whose work it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.catalog.lock import read_lock
from models.errors import ModelError
from models.progress import silent
from models.unicl.pocket import collect
from sightline.cli.main import app
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


def test_command_fetches_every_pin_and_names_the_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = tiny_pictographs.sources(tmp_path / "sources")
    fetched: list[str] = []

    def fetch(name: str, *_: object) -> Path:
        fetched.append(name)
        return folders[name]

    monkeypatch.setattr(collect, "fetch", fetch)
    arguments = ["datasets", "build", "pictographs", "--into", str(tmp_path / "set"), "--no-clipart", "--json"]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    summary = json.loads(said.stdout)
    assert summary["concepts"] == len(tiny_pictographs.NAMES) and summary["drawings"]["noto"] == summary["concepts"]
    assert set(fetched) == set(read_lock(collect.LOCK)) - {"clipart"}
    attribution = (tmp_path / "set" / "ATTRIBUTION.md").read_text()
    for name, source in read_lock(collect.LOCK).items():
        assert (f"| {source.address} |" in attribution) is (name != "clipart"), name


def test_missing_renderer_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="resvg-py"):
        collect.collect(tmp_path / "set", tmp_path / "cache", silent)
    assert not list(tmp_path.iterdir())
