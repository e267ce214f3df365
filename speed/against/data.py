"""What both checkouts open: the data directory of an earlier version that the tests keep."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

KEPT = Path(__file__).resolve().parents[2] / "tests/before"


def unpacked(folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy in ``folder`` whose waiting jobs are cancelled, and the secrets of its keys by name."""
    with tarfile.open(KEPT / "data-directory.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "data/sightline.db", isolation_level=None)) as database:
        database.execute("UPDATE jobs SET state = 'cancelled', finished_at = created_at WHERE state = 'queued'")
    keys: dict[str, str] = json.loads((KEPT / "answers.json").read_text())["keys"]
    return folder / "data", keys
