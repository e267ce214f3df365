"""A wall clock that can be moved: with this folder on PYTHONPATH, ``time.time`` adds what ``{data_dir}/clock`` says."""

from __future__ import annotations

import os
import time
from pathlib import Path

_file = Path(os.environ.get("SIGHTLINE_DATA_DIR", "/nonexistent")) / "clock"
_real = time.time


def _moved() -> float:
    try:
        return _real() + float(_file.read_text())
    except (OSError, ValueError):
        return _real()


time.time = _moved
