"""What ends a worker that hears nothing: messages wait, a child is free, and none is taken.

A consumer can lose its broker and stay connected. One way into this is closed in ``services.jobs.transport``; there may
be others. The worker's own event loop asks, not a thread: a worker forks its children, at any time, and a fork in a
process with threads may deadlock.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

import redis
from celery import Celery, bootsteps
from celery.worker import state

from services.jobs.broker import connection
from services.jobs.celery_app import queue_keys

log = logging.getLogger(__name__)

_EVERY_SECONDS = 2.0
_DEAF_SECONDS = 10.0
_LAST_SECONDS = 15
"""For an orderly end; then the kernel ends the process, however its loop hangs."""


class Deafness(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer: started again with each new connection, which clears the timers of the old one."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._since: float | None = None

    def start(self, consumer: Any) -> None:
        self._since = None
        self._timer = consumer.timer.call_repeatedly(_EVERY_SECONDS, self.listen, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def listen(self, consumer: Any) -> None:
        """End the process when it has been deaf for a while."""
        busy = len(state.reserved_requests) >= consumer.controller.concurrency
        if busy or state.should_stop is not None or not _any_waits(consumer.app):
            self._since = None
            return

        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since <= _DEAF_SECONDS:
            return

        log.error("worker hears nothing though jobs wait; it starts anew", extra={"queue": _queue(consumer.app)})
        self.stop(consumer)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LAST_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)


def _queue(app: Celery) -> str:
    return str(next(iter(app.amqp.queues.consume_from)))


def _any_waits(app: Celery) -> bool:
    try:
        with connection(app.conf.broker_url) as client:
            return any(client.llen(key) for key in queue_keys(_queue(app)))
    except redis.RedisError:
        return False  # no broker, no messages
