"""Kills everything that can be killed, in every moment that matters, and prints what became of the jobs.

    python tests/faults/matrix.py                          all cells, 200 jobs each, SQLite
    python tests/faults/matrix.py --database postgresql    the same on a PostgreSQL server of its own
    python tests/faults/matrix.py --jobs 50 --only worker  some of them
    python tests/faults/matrix.py --write docs/reliability.md  all, and put the table into that page

The table is the one in docs/reliability.md. Exit code 1 when any job was lost, done twice or done wrongly, or when a
killed worker was not recovered from in time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.faults import scenarios
from tests.faults.scenarios import SCENARIOS, Outcome

BEGIN, END = "<!-- table: faults -->\n", "<!-- end: faults -->"
HEAD = ("| fault | when | jobs | right, once | recovery | whole run |", "|---|---|---|---|---|---|")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs in each cell")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", help="cells whose name holds this text")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    options = parser.parse_args(arguments)
    if options.write is not None:
        if options.only:
            parser.error("--write wants the whole table: leave out --only")
        replaced(options.write.read_text(), [])  # a page without the marks is better found now than in half an hour
    print("\n".join(HEAD), flush=True)
    outcomes: list[Outcome] = []
    for outcome in run(options.jobs, options.database, options.only):
        print(outcome.row(), flush=True)
        outcomes.append(outcome)
    if options.write is not None:
        lines = [*HEAD, *(outcome.row() for outcome in outcomes), "", about(options.database)]
        options.write.write_text(replaced(options.write.read_text(), lines))
    return 1 if any(outcome.error is not None for outcome in outcomes) else 0


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


def about(database: str) -> str:
    """On what the table was made."""
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    cores = len(os.sched_getaffinity(0))
    day = time.strftime("%Y-%m-%d")
    return f"{names[database]}, {cores} cores, Linux, Python {platform.python_version()}, {day}."


def replaced(page: str, lines: Sequence[str]) -> str:
    """``page`` with ``lines`` between its marks, in place of what stood there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"The page has no lines {BEGIN.strip()} and {END} for the table to stand between.")
    return before + begin + "".join(f"{line}\n" for line in lines) + end + after


if __name__ == "__main__":
    sys.exit(main())
