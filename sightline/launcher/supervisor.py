"""Child processes by description: started in order, restarted with back-off, stopped in order; nothing is left."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from sightline.launcher.process import Process, describe_exit, did_not_start, has_exited, kill_group, spawn

_log = logging.getLogger("sightline.launcher")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_HEALTHY_SECONDS = 30.0
"""A process that ran this long before it died starts its back-off anew."""


@dataclass(slots=True)
class _Child:
    process: Process
    popen: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ready: bool = False
    killed: bool = False
    failures: int = 0
    restarts: int = 0
    due: float | None = None
    """When to start again, on the monotonic clock."""


@dataclass(slots=True)
class Supervisor:
    """Keeps ``processes`` running until :meth:`request_stop`. One thread, the main one; not for use in another."""

    processes: Sequence[Process]
    stopping: bool = False
    _hurry: bool = False
    _children: dict[str, _Child] = field(default_factory=dict)
    _wakeup: int = -1

    def request_stop(self, *, by_hand: bool = False) -> None:
        """Stop soon; safe to call from a signal handler.

        A person who asks a second time does not want to wait. Machines repeat themselves and mean nothing by it.
        """
        self._hurry |= self.stopping and by_hand
        self.stopping = True

    @property
    def pids(self) -> dict[str, int]:
        """The process id of everything that runs."""
        return {name: child.popen.pid for name, child in self._children.items() if child.popen is not None}

    def run(self, on_ready: Callable[[], None], before_stop: Callable[[], None]) -> None:
        """Start, watch until told to stop, stop. Raises ``process-failed`` when something does not start at all."""
        with self._signals():
            try:
                self._start()
                if not self.stopping:
                    on_ready()
                while not self.stopping:
                    self._turn()
            finally:
                self.stopping = True
                try:
                    before_stop()
                finally:
                    self._stop()

    def _start(self) -> None:
        for stage in sorted({process.stage for process in self.processes}):
            members = [_Child(process) for process in self.processes if process.stage == stage]
            self._children.update((child.process.name, child) for child in members)
            needed = [child for child in members if child.process.on_demand is None]
            for child in needed:
                self._spawn(child)
            while not self.stopping and not all(child.ready for child in needed):
                self._turn(starting=True)

    def _turn(self, *, starting: bool = False) -> None:
        """Wait for something to happen, for at most a moment, and react to it."""
        self._wait(0.02 if any(c.popen and not c.ready for c in self._children.values()) else 0.5)
        for child in self._children.values():
            self._reap(child, starting)
            self._check_ready(child, starting)
            if child.due is not None and time.monotonic() >= child.due and not self.stopping:
                child.due = None
                if child.process.on_demand is None:
                    self._spawn(child)

    def _wait(self, seconds: float) -> None:
        dues = [child.due for child in self._children.values() if child.due is not None]
        if dues:
            seconds = min(seconds, max(0.0, min(dues) - time.monotonic()))
        asleep = {} if self.stopping else self._asleep()
        readable, _, _ = select.select([self._wakeup, *asleep], [], [], seconds)
        for descriptor in readable:
            if descriptor == self._wakeup:
                with suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
            else:
                self._spawn(asleep[descriptor])

    def _asleep(self) -> dict[int, _Child]:
        """Return what is started when somebody connects to it, by the socket."""
        return {
            child.process.on_demand: child
            for child in self._children.values()
            if child.process.on_demand is not None and child.popen is None and child.due is None
        }

    def _spawn(self, child: _Child) -> None:
        process = child.process
        try:
            child.popen = spawn(process)
        except OSError as error:
            if child.restarts == 0 and process.on_demand is None:
                raise did_not_start(process, f"{process.argv[0]}: {error.strerror}") from error
            # No memory or no process ids just now: the next try may find some.
            self._plan_restart(child, str(error))
            return

        child.started, child.ready, child.due = time.monotonic(), process.ready is None, None
        _log.debug("%s started", process.name, extra={"program": process.name, "pid": child.popen.pid})

    def _check_ready(self, child: _Child, starting: bool) -> None:
        if child.popen is None or child.ready or child.process.ready is None:
            return
        if child.process.ready():
            child.ready = True
            return
        if time.monotonic() - child.started > child.process.start_timeout:
            if starting:
                raise did_not_start(child.process, f"it was not ready within {child.process.start_timeout:g} s")
            _log.error("%s did not become ready: killed", child.process.name, extra={"program": child.process.name})
            kill_group(child.popen.pid)

    def _reap(self, child: _Child, starting: bool = False) -> None:
        """Notice a death, clear away what the dead process left running, and plan the restart."""
        if child.popen is None or not has_exited(child.popen.pid):
            return

        # While the zombie is there its process group cannot be anybody else's.
        kill_group(child.popen.pid)
        code = child.popen.wait()
        child.popen = None
        if self.stopping:
            return
        if starting and not child.ready and child.process.on_demand is None:
            raise did_not_start(child.process, f"{describe_exit(code)} before it was ready")

        if time.monotonic() - child.started >= _HEALTHY_SECONDS:
            child.failures = 0

        self._plan_restart(child, describe_exit(code))
        if child.process.died is not None:
            child.process.died(code)

    def _plan_restart(self, child: _Child, why: str) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(child.failures, 16))
        child.failures += 1
        child.restarts += 1
        child.due = time.monotonic() + pause
        name = child.process.name
        _log.error(
            "%s died (%s); it starts again in %g s",
            name,
            why,
            round(pause, 1),
            extra={"program": name, "restarts": child.restarts},
        )

    def _stop(self) -> None:
        for child in self._children.values():
            child.due = None
            if child.process.lame_duck_signal is not None and child.popen is not None and child.ready:
                child.popen.send_signal(child.process.lame_duck_signal)

        for stage in sorted({child.process.stage for child in self._children.values()}, reverse=True):
            members = [child for child in self._children.values() if child.process.stage == stage]
            begin = time.monotonic()
            for child in members:
                self._reap(child)
                if child.popen is not None:
                    child.popen.send_signal(child.process.stop_signal)
            while running := [child for child in members if child.popen is not None]:
                for child in running:
                    late = time.monotonic() - begin > child.process.grace
                    if child.popen is not None and not child.killed and (late or self._hurry):
                        _log.warning("%s is killed: %s", child.process.name, "its time is up" if late else "no waiting")
                        child.killed = True
                        kill_group(child.popen.pid)
                self._wait(0.2)
                for child in running:
                    self._reap(child)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop signals set a flag, and every signal wakes the loop up through a pipe."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.request_stop(by_hand=number == signal.SIGINT)

        def noted(number: int, frame: FrameType | None) -> None:
            """A child changed state; the pipe has woken the loop up."""

        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._wakeup = reader
        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: stop, signal.SIGCHLD: noted}
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN  # nohup, or a shell's `&`
        }
        wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)
