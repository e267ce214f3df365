"""Celery's Redis transport with one promise more: a message is done with even when the broker dies during its ack.

Kombu forgets a message only after the broker has confirmed the ack. If that fails, the message keeps its place in the
prefetch window for ever, and a worker with a window of one never takes another: it is deaf, though connected. The
broker may deliver the message again; its job has ended, so that does nothing.
"""

from __future__ import annotations

from celery.app import amqp as celery_amqp
from kombu import connection as kombu_connection
from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """The window of messages in work."""

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


class Channel(redis.Channel):
    """A channel with that window."""

    QoS = QoS


class Transport(redis.Transport):
    """Redis or Valkey, by network or by socket."""

    Channel = Channel


class Connection(kombu_connection.Connection):
    """A connection that speaks to Redis in this way, however its address is written."""

    def get_transport_cls(self) -> type[virtual.Transport]:
        found: type[virtual.Transport] = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return Transport if found is redis.Transport else found


class AMQP(celery_amqp.AMQP):  # type: ignore[misc]
    """What a Celery application opens its connections with."""

    Connection = Connection
