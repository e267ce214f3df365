"""A program that supervises what its argument describes as JSON; prints a line when everything is ready.

Tests of the supervisor run it as a process of its own: it takes signals, and is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from services.errors import Problem
from sightline.launcher.process import Process
from sightline.launcher.supervisor import Supervisor


def main() -> int:
    processes = []
    for spec in json.loads(sys.argv[1]):
        ready = spec.pop("ready_file", None)
        for name in ("stop_signal", "lame_duck_signal"):
            if name in spec:
                spec[name] = signal.Signals[spec[name]]
        processes.append(
            Process(
                **spec,
                environment={**os.environ},
                ready=None if ready is None else Path(ready).exists,
            )
        )
    supervisor = Supervisor(processes)

    def on_ready() -> None:
        print("ready", json.dumps(supervisor.pids), flush=True)

    try:
        supervisor.run(on_ready, lambda: print("stopping", flush=True))
    except Problem as problem:
        print("problem", problem.code, problem.detail, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
