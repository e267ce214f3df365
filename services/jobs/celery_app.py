"""The Celery application: how job ids travel. At least once, in JSON, with nothing kept of what came of them."""

from __future__ import annotations

from celery import Celery
from kombu.entity import Exchange, Queue

from services.jobs.broker import url_of
from services.jobs.queues import QUEUES
from services.settings import Settings

TASK = "sightline.run_job"
PRIORITIES = 10
_VISIBILITY_SECONDS = 12 * 3600


def make_app(settings: Settings) -> Celery:
    """An application on the broker of ``settings``. Raises ``broker-unknown``."""
    app = Celery("sightline", set_as_current=False, amqp="services.jobs.transport:AMQP")
    app.conf.update(
        broker_url=url_of(settings),
        # The default exchange needs no bindings in the broker: they would be lost with FLUSHALL, and kombu would
        # drop messages without a word.
        task_queues=[_queue(name) for name in QUEUES],
        task_default_queue="default",
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        # A message is acknowledged after its job has ended or was handed back. Should it come twice, the second finds
        # the job taken.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Longer than jobs take: the reaper, not the broker, brings back what a dead worker held.
            "visibility_timeout": _VISIBILITY_SECONDS,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "priority_steps": list(range(PRIORITIES)),
            "queue_order_strategy": "priority",
            "max_retries": 1,  # who sends tries again later; a worker's own connection is tried for ever
            "interval_start": 0.1,
            "health_check_interval": 10,
            "socket_connect_timeout": 3,
            "socket_timeout": 30,
            "socket_keepalive": True,
        },
        worker_enable_remote_control=False,
        worker_send_task_events=settings.celery_events,
        task_send_sent_event=settings.celery_events,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]


def broker_priority(priority: int) -> int:
    """A job's priority, where more is sooner, as this broker counts, where 0 is first."""
    return PRIORITIES - 1 - priority


def queue_keys(queue: str) -> list[str]:
    """The lists that the broker keeps a queue in, one a priority."""
    return [queue if step == 0 else f"{queue}\x06\x16{step}" for step in range(PRIORITIES)]
