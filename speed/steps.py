"""What each saving of the gateway is worth: the same load with one of them taken away at a time.

``python -m speed.steps [--seconds S] [--rounds N]`` prints a markdown table. One gateway process without the
launcher, the tiny network, a 224 x 224 JPEG as base64 in JSON, eight users; variants take turns round by round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from speed.loadgen import Point, measure
from speed.peers.without import SAVINGS
from speed.servers import Server, Setting, running, sightline

USERS = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="speed.steps", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each point")
    parser.add_argument("--rounds", type=int, default=3, help="medians over so many")
    options = parser.parse_args()
    points: dict[str, list[Point]] = {name: [] for name in SAVINGS}
    with tempfile.TemporaryDirectory(prefix="sightline-steps-") as folder:
        setting = Setting.make(Path(folder))
        for number in range(options.rounds):
            for name in SAVINGS:
                point = play(setting, name, options.seconds)
                points[name].append(point)
                print(f"round {number + 1}, {name}: {point.cpu_ms:.2f} ms, {point.rate:.0f}/s", file=sys.stderr)
    print(table(points))
    return 0


def play(setting: Setting, name: str, seconds: float) -> Point:
    """One variant under load."""
    whole = sightline(setting, 1)
    request = next(iter(whole.requests.values()))
    environment = {"SIGHTLINE_DATA_DIR": str(setting.folder / "sightline-1"), "SIGHTLINE_LOG_LEVEL": "warning"}
    argv = [sys.executable, "-m", "speed.peers.without", name, "{port}"]
    server = Server(name, argv, {name: request}, environment | whole.environment)
    with running(server, setting.folder / "log") as (pid, requests):
        point = measure(requests[name], pid, users=USERS, seconds=seconds)
    if point.failed:
        raise SystemExit(f"{name}: {point.failed} requests failed")
    return point


def table(points: dict[str, list[Point]]) -> str:
    """Medians, and the ratio to the gateway as it is."""
    base = statistics.median(point.cpu_ms for point in points["nothing"])
    lines = ["| instead | CPU ms a request | of all rounds | times as much | req/s |", "|---|---|---|---|---|"]
    for name, (title, _) in SAVINGS.items():
        spent = sorted(point.cpu_ms for point in points[name])
        middle = statistics.median(spent)
        rate = statistics.median(point.rate for point in points[name])
        span = f"{spent[0]:.2f} to {spent[-1]:.2f}"
        lines.append(f"| {title} | {middle:.2f} | {span} | {middle / base:.2f} | {rate:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
