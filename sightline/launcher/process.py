"""One child process: what it is to run, how it is started so that it dies with this one, and how it ended."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from services.errors import Kind, Problem

_TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):  # it died in between
    os._exit(1)
for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored_by_python, signal.SIG_DFL)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Process:
    """What to run and how to treat it.

    Processes of one ``stage`` start together, once every process of the lower stages is ``ready``; they stop in the
    opposite order. ``grace`` seconds pass between ``stop_signal`` and SIGKILL. ``descriptors`` are inherited under
    their own numbers. ``died`` is called with the exit code after an unwanted death, before the restart.
    ``lame_duck_signal`` is sent when the whole is told to stop, which may be long before this process's turn comes.
    ``on_demand`` is a listening socket among ``descriptors``: the process is started when somebody connects to it, and
    after a death when somebody connects again; nobody waits for it at the start.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    stage: int = 0
    ready: Callable[[], bool] | None = None
    start_timeout: float = 120.0
    stop_signal: signal.Signals = signal.SIGTERM
    lame_duck_signal: signal.Signals | None = None
    grace: float = 10.0
    descriptors: tuple[int, ...] = ()
    died: Callable[[int], None] | None = None
    on_demand: int | None = None


def spawn(process: Process) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own. Raises ``OSError``."""
    return subprocess.Popen(
        _tied_to_this_process(process.argv, process.environment.get("PATH")),
        env=dict(process.environment),
        stdin=subprocess.DEVNULL,
        pass_fds=process.descriptors,
        start_new_session=True,
    )


def describe_exit(code: int) -> str:
    """An exit code of ``Popen`` in words: ``exit code 3``, ``killed by SIGSEGV``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def did_not_start(process: Process, why: str) -> Problem:
    """Say that the whole does not start, because of one process."""
    return Problem(
        Kind.UNAVAILABLE,
        "process-failed",
        "The platform did not start",
        f"{process.name}: {why}.",
        remedy="Its own last words are in the log above.",
    )


def has_exited(pid: int) -> bool:
    """Return whether a child is dead, without taking its zombie away."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def kill_group(pid: int) -> None:
    """Kill what :func:`spawn` has started, and everything that it has started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _tied_to_this_process(argv: Sequence[str], path: str | None) -> list[str]:
    """``argv`` behind a program that first asks the kernel to die with this process, however that dies.

    A hook between fork and exec (``preexec_fn``) could do it too, and may deadlock where this process has threads.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)
    if shutil.which(argv[0], path=path) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *argv]
