"""Kills everything that can be killed, in every moment that matters, and prints what became of the jobs.

    python tests/faults/matrix.py                          all cells, 200 jobs each, SQLite
    python tests/faults/matrix.py --database postgresql    the same on a PostgreSQL server of its own
    python tests/faults/matrix.py --jobs 50 --only worker  some of them

The table is the one in docs/reliability.md. Exit code 1 when any job was lost, done twice or done wrongly.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.faults import scenarios
from tests.faults.scenarios import SCENARIOS, Outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs in each cell")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", help="cells whose name holds this text")
    options = parser.parse_args()
    failed = False
    print("| fault | when | jobs | right, once | recovery | whole run |\n|---|---|---|---|---|---|", flush=True)
    for outcome in run(options.jobs, options.database, options.only):
        print(outcome.row(), flush=True)
        failed = failed or outcome.error is not None
    return 1 if failed else 0


def run(jobs: int, database: str, only: str | None) -> Iterator[Outcome]:
    """Every scenario on a platform of its own."""
    server = None
    if database == "postgresql":
        from tests.support.postgres import Postgres

        server = Postgres()
    try:
        for scenario in SCENARIOS:
            if only and only not in scenario.name:
                continue
            folder = Path(tempfile.mkdtemp(prefix="sl-f-", dir="/tmp"))
            begin = time.monotonic()
            try:
                yield scenarios.play(scenario, folder, jobs, server.database() if server else None)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                print(f"{scenario.name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    finally:
        if server is not None:
            server.close()


if __name__ == "__main__":
    sys.exit(main())
