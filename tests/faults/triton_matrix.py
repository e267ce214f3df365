"""Kills, stops and slows Triton servers under load, and prints what 32 clients of the gateway saw.

    python tests/faults/triton_matrix.py                all cells
    python tests/faults/triton_matrix.py --only kill    some of them

The table is the one in docs/triton.md. Exit code 1 when a client got anything but a right answer or, with one server, a
503 that says when to come again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.faults.triton_cells import CELLS, house, play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    options = parser.parse_args()
    failed = False
    print("| fault | requests | failed | 503 with Retry-After | longest answer | whole again after |")
    print("|---|---|---|---|---|---|", flush=True)
    for cell in CELLS:
        if options.only not in cell.name:
            continue
        folder = Path(tempfile.mkdtemp(prefix="sl-t-"))
        begin = time.monotonic()
        try:
            with house(folder, cell.replicas, workers=cell.workers) as made:
                outcome = play(cell, made)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(outcome.row(), flush=True)
        for one in outcome.failures[:3]:
            print(one, file=sys.stderr)
        print(f"{cell.name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
        failed = failed or bool(outcome.failures) or (cell.replicas > 1 and bool(outcome.refused))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
