"""Runs celery-exporter with the broker's address from a file: ``celery_exporter.py FILE [OPTION...]``."""

from __future__ import annotations

import sys
from pathlib import Path

from src.cli import cli  # the package is called prometheus-exporter-celery, its module src

if __name__ == "__main__":
    file, *options = sys.argv[1:]
    # An option given here, and not by the shell, is in no list of processes.
    cli(["--broker-url", Path(file).read_text().strip(), *options])
