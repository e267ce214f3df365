"""One server at a time holds a run directory, and a killed one does not hold it for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import Problem
from sightline.launcher.rundir import ServerInfo, held, read_server

ROOT = Path(__file__).parents[3]
INFO = ServerInfo(pid=1, url="http://127.0.0.1:1234", workers=2, started_at=3.5)


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    with held(tmp_path / "run") as run_dir:
        run_dir.announce(INFO)
        with pytest.raises(Problem) as caught, held(tmp_path / "run"):
            pass
    assert caught.value.code == "already-running"
    assert str(os.getpid()) in caught.value.detail and INFO.url in caught.value.detail


def test_a_refused_holder_leaves_the_other_one_alone(tmp_path: Path) -> None:
    with held(tmp_path) as run_dir:
        run_dir.announce(INFO)
        with pytest.raises(Problem), held(tmp_path):
            pass
        assert read_server(tmp_path) == INFO
        with pytest.raises(Problem), held(tmp_path):
            pass


def test_a_clean_end_leaves_the_folder_empty(tmp_path: Path) -> None:
    with held(tmp_path) as run_dir:
        run_dir.announce(INFO)
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_s_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with held(tmp_path):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_a_killed_holder_left_does_not_matter(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom sightline.launcher.rundir import ServerInfo, held\n"
        "with held(Path(sys.argv[1])) as run_dir:\n"
        "    run_dir.announce(ServerInfo(os.getpid(), 'http://127.0.0.1:1', 1, 0.0))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert read_server(tmp_path) is not None
    with held(tmp_path):
        assert read_server(tmp_path) is None


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Problem) as caught, held(tmp_path / "file" / "run"):
        pass
    assert caught.value.code == "data-dir-unusable"


def test_an_announcement_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{}")
    assert read_server(tmp_path) is None
