"""How many processor cores this process may use, and how many threads one model gets."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@cache
def physical_cores(cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Physical cores that the process is allowed on; two hyper-threads of one core count once, a container's CPU
    quota is rounded up. At least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_siblings(cpus / f"cpu{number}" / "topology" / "thread_siblings_list", number) for number in allowed}
    return max(1, min(len(cores), _quota(quota)))


def threads_for(asked: int, workers: int) -> int:
    """Threads for one model: what its card asks for, or (0) the cores shared out among the gateway processes."""
    return asked or max(1, physical_cores() // workers)


def _siblings(path: Path, number: int) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return str(number)


def _quota(path: Path) -> int:
    """Cores of a version 2 control group: ``200000 100000`` is two, ``max 100000`` no limit."""
    try:
        limit, period = path.read_text().split()
    except (OSError, ValueError):
        return 1 << 16
    return 1 << 16 if limit == "max" else math.ceil(int(limit) / int(period))
