"""What jobs cost the gateway: processor time of a submission, and the time of a page of a long list.

    python -m speed.jobs                               10,000 jobs of one key, SQLite
    python -m speed.jobs --jobs 2000                   a quick look
    python -m speed.jobs --write docs/reliability.md   and put the table into that page

The platform is a real ``sightline serve`` with broker and maintenance, and without workers, so that every job waits.
Submissions are one-line batches over one connection, one at a time. Pages are read from the newest job to the oldest.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from sightline.launcher.rundir import read_server
from speed import meter

BEGIN, END = "<!-- table: jobs -->\n", "<!-- end: jobs -->"
START_SECONDS = 60
PART = 1000  # submissions that one figure is the mean of
ORDER = {"kind": "batch", "parameters": {"input": [{"url": "/v1/classify", "body": {"image": "..."}}]}}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; ``limit`` is what it may be, empty where nothing is promised."""

    what: str
    figure: str
    limit: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="how many wait in the end")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    options = parser.parse_args()
    page = options.write.read_text() if options.write else f"{BEGIN}{END}"
    if BEGIN not in page or END not in page:
        parser.error(f"{options.write} has no lines {BEGIN.strip()} and {END}")
    with tempfile.TemporaryDirectory(prefix="sl-bench-") as folder, serving(Path(folder), options.jobs) as server:
        rows = [*submitted(server, options.jobs), *listed(server, options.jobs)]
    lines = table(rows)
    print("\n".join(lines))
    if options.write:
        before, _, rest = page.partition(BEGIN)
        options.write.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2])
    return 0


@dataclass(frozen=True, slots=True)
class Server:
    """The platform under test; ``gateway`` and ``maintenance`` are process ids."""

    http: httpx.Client
    gateway: int
    maintenance: int


@contextmanager
def serving(data: Path, jobs: int) -> Iterator[Server]:
    """The platform on a folder of its own, without workers and models."""
    own = {
        "SIGHTLINE_DATA_DIR": str(data),
        "SIGHTLINE_QUEUES": "[]",
        "SIGHTLINE_PRELOAD": "[]",
        "SIGHTLINE_LOG_LEVEL": "warning",
        "SIGHTLINE_MAX_JOBS_QUEUED": str(jobs),
    }
    argv = [sys.executable, "-m", "sightline", "serve", "--port", "0"]
    process = subprocess.Popen(argv, env={**os.environ, **own})
    try:
        end = time.monotonic() + START_SECONDS
        while (info := read_server(data / "run")) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("The platform did not start.")
            time.sleep(0.05)
        with httpx.Client(base_url=info.url, timeout=60) as http:
            yield Server(http, _below(process.pid, "-m gateway"), _below(process.pid, "background maintenance"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def submitted(server: Server, jobs: int) -> Iterator[Row]:
    """Submit them all; the first and the last part are told."""
    part = min(PART, jobs // 2)
    yield from _measured(server, 0, part)
    _submit(server, jobs - 2 * part)
    yield from _measured(server, jobs - part, jobs)


def _measured(server: Server, first: int, last: int) -> Iterator[Row]:
    number, waiting = last - first, f"{first:,} to {last:,} jobs wait"
    gateway, maintenance = meter.usage(server.gateway).cpu, meter.usage(server.maintenance).cpu
    begin = time.perf_counter()
    _submit(server, number)
    took = (time.perf_counter() - begin) / number * 1e3
    spent = (meter.usage(server.gateway).cpu - gateway) / number * 1e3
    told = (meter.usage(server.maintenance).cpu - maintenance) / number * 1e3
    yield Row(f"submission, processor time of the gateway, {waiting}", f"{spent:.2f} ms", "5 ms")
    yield Row(f"submission, time until it is answered, {waiting}", f"{took:.2f} ms")
    yield Row(f"telling the broker, processor time of maintenance, {waiting}", f"{told:.2f} ms")


def _submit(server: Server, number: int) -> None:
    for _ in range(number):
        answer = server.http.post("/v1/jobs", json=ORDER)
        assert answer.status_code == 202, answer.text


def listed(server: Server, jobs: int) -> Iterator[Row]:
    """Read the whole list by pages of several lengths."""
    for limit, more in ((50, {}), (200, {}), (50, {"state": "queued", "kind": "batch"})):
        times: list[float] = []
        seen: set[str] = set()
        after: dict[str, str] = {}
        while True:
            begin = time.perf_counter()
            answer = server.http.get("/v1/jobs", params={"limit": limit, **more, **after})
            times.append((time.perf_counter() - begin) * 1e3)
            page = answer.raise_for_status().json()
            seen |= {job["id"] for job in page["data"]}
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
        assert len(seen) == jobs, f"{len(seen)} of {jobs} jobs were listed"
        half, most = np.percentile(times, (50, 99))
        chosen = ", by state and kind" if more else ""
        yield Row(f"a page of {limit} of {jobs:,} waiting jobs{chosen}", f"{half:.1f} ms, p99 {most:.1f} ms", "50 ms")


def table(rows: Sequence[Row]) -> list[str]:
    """As markdown, and on what it was measured."""
    head = ["| what | measured | at most |", "|---|---|---|"]
    cells = [f"| {row.what} | {row.figure} | {row.limit} |" for row in rows]
    cores, day = len(os.sched_getaffinity(0)), time.strftime("%Y-%m-%d")
    where = f"SQLite, {cores} cores, Python {platform.python_version()}, {day}; a fixed piece of work took"
    return [*head, *cells, "", f"{where} {meter.calibrate():.1f} ms of processor time meanwhile."]


def _below(root: int, command: str) -> int:
    for pid in meter.tree(root):
        said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if command in said:
            return pid
    raise SystemExit(f"No process of the platform is called {command!r}.")


if __name__ == "__main__":
    sys.exit(main())
