"""Serving speed side by side: Sightline, FastAPI with ONNX Runtime, LitServe; same network, picture, answer check.

``make bench``, or ``python -m speed.serving [--quick] [--write]``. Prints markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from speed.loadgen import Point, measure
from speed.servers import Server, Setting, peers, running, sightline

USERS = (1, 8, 32, 64)
OPEN_USERS = 512
REPORT = Path(__file__).parents[1] / "docs" / "performance.md"

Rows = dict[str, dict[int, Point]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="speed.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each point")
    parser.add_argument("--rounds", type=int, default=1, help="the best of several counts, for every server alike")
    parser.add_argument("--quick", action="store_true", help="a second a point, fewer peers")
    parser.add_argument("--only", default="", help="servers whose name contains this")
    parser.add_argument("--write", action="store_true", help=f"append the tables to {REPORT.name}")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 1.0
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        text = report(Setting.make(Path(folder)), options)
    print("\n" + text)
    if options.write:
        with REPORT.open("a") as out:
            out.write("\n" + text)
        print(f"appended to {REPORT}")
    return 0


def report(setting: Setting, options: argparse.Namespace) -> str:
    """Run everything; the tables as markdown."""
    ours = [sightline(setting, workers) for workers in (1, 2)]
    idiomatic = peers(setting, "idiomatic")
    lean = [] if options.quick else peers(setting, "ours")
    rows: Rows = {}
    opened = ""
    servers = [s for s in [*ours, *idiomatic, *lean] if options.only.lower() in s.name.lower()]
    for number in range(options.rounds):  # round by round, so that a busy moment of the machine meets all alike
        for server in servers:
            measure_all(rows, setting, server, options, f"round {number + 1}")
    if ours[0] in servers:
        opened = open_loop(setting, ours[0], options)
    lines = [heading(options), "", *table(rows), "", *ratios(rows, ours, idiomatic, lean), "", opened]
    return "\n".join(lines)


def measure_all(rows: Rows, setting: Setting, server: Server, options: argparse.Namespace, label: str) -> None:
    """Start the server, measure every request of it at every number of users, keep what is better than before."""
    warm_up = min(1.0, options.seconds)
    with running(server, setting.folder / "log") as (pid, requests):
        for name, request in requests.items():
            row = rows.setdefault(name, {})
            for users in USERS:
                point = measure(request, pid, users=users, seconds=options.seconds, warm_up=warm_up)
                if users not in row or point.rate > row[users].rate:
                    row[users] = point
            rates = ", ".join(f"{point.rate:.0f}/s at {users}" for users, point in row.items())
            print(f"{label}, {name}: {rates}", file=sys.stderr)


def heading(options: argparse.Namespace) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "fastapi", "uvicorn", "litserve"))
    return (
        f"### Serving, {time.strftime('%Y-%m-%d')}\n\n"
        f"{cpu_name()}, {os.cpu_count()} CPUs shared by server and load generator; Python "
        f"{platform.python_version()}, {packages}. Tiny network, one 224x224 JPEG a request, answers checked; "
        f"{options.seconds:g} s a point, best of {options.rounds}. JSON with base64 unless the row says otherwise. "
        "Memory is the proportional set size of the whole process tree, launcher included."
    )


def table(rows: Rows) -> list[str]:
    """req/s, p50/p99 in ms, server CPU ms a request for each number of users; memory at the end."""
    lines = [
        "| server | "
        + " | ".join(f"c={users}: req/s · p50/p99 ms · CPU ms" for users in USERS)
        + " | memory MiB | failed |",
        "|---|" + "---|" * (len(USERS) + 2),
    ]
    for name, points in rows.items():
        cells = [f"{p.rate:.0f} · {p.ms(0.5):.1f}/{p.ms(0.99):.1f} · {p.cpu_ms:.2f}" for p in points.values()]
        memory = max(p.memory for p in points.values())
        failed = sum(p.failed for p in points.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {memory:.0f} | {failed} |")
    loads = [p.load for points in rows.values() for p in points.values()]
    works = [p.calibration for points in rows.values() for p in points.values()]
    if loads:
        lines += [
            "",
            f"Load average {min(loads):.1f} to {max(loads):.1f}; a fixed piece of work took {min(works):.2f} to "
            f"{max(works):.2f} ms of CPU in between (the spread is the machine's, not the servers').",
        ]
    return lines


def ratios(rows: Rows, ours: list[Server], idiomatic: list[Server], lean: list[Server]) -> list[str]:
    """Each of our rows against the best peer of each column."""
    lines: list[str] = []
    for title, group in (("idiomatic peers", idiomatic), ("peers with our preprocessing", lean)):
        names = [name for server in group for name in server.requests if name in rows]
        mine = [name for server in ours for name in server.requests if name in rows]
        if not names or not mine:
            continue
        best = {users: max((rows[name][users].rate, name) for name in names) for users in USERS}
        cheapest = min(point.cpu_ms for name in names for point in rows[name].values())
        lines += [
            f"Throughput over the best of the {title}:",
            "",
            "| row | "
            + " | ".join(f"c={users} ({best[users][0]:.0f}/s, {best[users][1]})" for users in USERS)
            + f" | CPU/request over the cheapest ({cheapest:.2f} ms) |",
            "|---|" + "---|" * (len(USERS) + 1),
        ]
        for name in mine:
            cells = [f"{rows[name][users].rate / best[users][0]:.2f}x" for users in USERS]
            cpu = min(point.cpu_ms for point in rows[name].values()) / cheapest
            lines.append(f"| {name} | {' | '.join(cells)} | {cpu:.2f}x |")
        lines.append("")
    return lines


def open_loop(setting: Setting, server: Server, options: argparse.Namespace) -> str:
    """Random arrivals below and above what the server can do, which is measured just before each."""
    lines = [
        f"Open loop, {server.name}; capacity is its closed loop with 32 users just before:",
        "",
        "| capacity | offered | goodput | of capacity | p50/p99 ms | refused | their p50/p99 ms | failed "
        "| memory MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with running(server, setting.folder / "log") as (pid, requests):
        request = requests[server.name]
        for share in (0.7, 1.5):
            capacity = measure(request, pid, users=32, seconds=options.seconds).rate
            rate = capacity * share
            point = measure(request, pid, users=OPEN_USERS, seconds=options.seconds * 2, rate=rate, warm_up=0)
            refused = len(point.latencies[429])
            lines.append(
                f"| {capacity:.0f}/s | {share:.0%} = {rate:.0f}/s | {point.rate:.0f}/s "
                f"| {point.rate / capacity:.0%} | {point.ms(0.5):.1f}/{point.ms(0.99):.1f} "
                f"| {refused / max(1, point.sent):.0%} | {point.ms(0.5, 429):.1f}/{point.ms(0.99, 429):.1f} "
                f"| {point.failed} | {point.memory_before:.0f} to {point.memory:.0f} |"
            )
    return "\n".join(lines) + "\n"


def cpu_name() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
