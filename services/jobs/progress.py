"""What a job says about itself between two beats, and whether it is to stop: shared by its work and its heartbeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson

from services.jobs.events import Name
from services.jobs.stop_signals import JobStopped

_BUFFERED = 2_000  # events between two beats; a job that logs in a tight loop loses lines, not memory


class Reporter:
    """Progress and events not written yet. Every method is safe in any thread and never waits for the database."""

    def __init__(self, progress: Mapping[str, Any]) -> None:
        self.news = threading.Event()
        """Set when there is something to write, or the job was told to stop."""
        self.writing = threading.Lock()
        """Held while what was taken is on its way, so that the end of the job does not overtake the last news."""
        self._lock = threading.Lock()
        self._progress: dict[str, Any] = dict(progress)
        self._fresh = False
        self._events: list[tuple[Name, Mapping[str, Any]]] = []
        self._dropped = 0
        self._stop: JobStopped | None = None
        self._stopped_at = 0.0

    def step(self, n: int | None, total: int | None, message: str | None, metrics: Mapping[str, float] | None) -> None:
        with self._lock:
            if n is not None:
                self._progress["step"] = n
            if total is not None:
                self._progress["total"] = total
            if message is not None:
                self._progress["message"] = message[:500]
            if metrics:
                clean = as_json(metrics)
                self._progress["metrics"] = {**self._progress.get("metrics", {}), **clean}
                self._append("metric", {"step": self._progress.get("step"), "metrics": clean})
            self._fresh = True
        self.news.set()

    def log(self, message: str, level: str) -> None:
        with self._lock:
            self._append("log", {"level": level, "message": message[:4_000]})
        self.news.set()

    def progress(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._progress)

    def take(self) -> tuple[dict[str, Any] | None, list[tuple[Name, Mapping[str, Any]]]]:
        """Return what is new since the last time; the caller writes it, or gives it back."""
        self.news.clear()
        with self._lock:
            progress = dict(self._progress) if self._fresh else None
            events = self._events
            if self._dropped:
                lost = f"{self._dropped} lines were dropped: more than {_BUFFERED} at once."
                events.append(("log", {"level": "warning", "message": lost}))
            self._events, self._fresh, self._dropped = [], False, 0
            return progress, events

    def give_back(self, progress: Mapping[str, Any] | None, events: list[tuple[Name, Mapping[str, Any]]]) -> None:
        """What could not be written goes first the next time."""
        with self._lock:
            self._fresh = self._fresh or progress is not None
            self._events = [*events, *self._events][-_BUFFERED:]

    def stop(self, reason: JobStopped) -> None:
        """Tell the job to stop; the first reason counts."""
        with self._lock:
            if self._stop is None:
                self._stop, self._stopped_at = reason, time.monotonic()
        self.news.set()

    @property
    def stopped(self) -> bool:
        return self._stop is not None

    @property
    def reason(self) -> JobStopped | None:
        return self._stop

    @property
    def ignored_for(self) -> float:
        """Seconds since the job was told to stop; 0 when it was not."""
        return time.monotonic() - self._stopped_at if self._stop is not None else 0.0

    def raise_if_stopped(self) -> None:
        if self._stop is not None:
            raise self._stop.again()

    def _append(self, name: Name, data: Mapping[str, Any]) -> None:
        if len(self._events) < _BUFFERED:
            self._events.append((name, data))
        else:
            self._dropped += 1


def as_json(value: Any) -> Any:
    """``value`` as JSON has it: NumPy numbers become numbers, and what is not finite becomes null."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
