"""Which process works on a job, so that others on the same machine can see at once whether it still lives."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from pathlib import Path


class Sight(StrEnum):
    """What can be seen of a process from here."""

    GONE = "gone"
    STOPPED = "stopped"
    ALIVE = "alive"
    ELSEWHERE = "elsewhere"


def identity(pid: int | None = None) -> str:
    """``host.boot:pid-namespace:pid:start``; no other process, before or after, has the same."""
    pid = pid or os.getpid()
    return f"{_here()}:{pid}:{_start(pid)[1]}"


def look(worker: str) -> Sight:
    """Return what became of the process that called itself ``worker``."""
    where, _, rest = worker.rpartition(":")[0].rpartition(":")
    start = worker.rpartition(":")[2]
    if where != _here() or not rest.isdigit() or not start:  # no start: a system without /proc
        return Sight.ELSEWHERE
    state, began = _start(int(rest))
    if began != start or state in "ZX":
        return Sight.GONE
    return Sight.STOPPED if state in "Tt" else Sight.ALIVE


def _here() -> str:
    # Containers may share a host name; process numbers mean the same only inside one namespace.
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        namespace = "0"
    return f"{socket.gethostname()}.{_boot()}:{namespace}"


def _boot() -> str:
    """Of this run of the kernel: machines made from one image have one name, and the first namespace of all is one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start(pid: int) -> tuple[str, str]:
    """The state letter of a process and when it began, in clock ticks since boot; ``("X", "")`` when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X", ""
    after_name = text.rpartition(")")[2].split()
    return after_name[0], after_name[19]
