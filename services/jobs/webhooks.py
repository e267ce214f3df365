"""Tells the owner's server how a job ended: signed, tried again with growing pauses, every try written down.

Signed as the Standard Webhooks specification has it: ``webhook-id``, ``webhook-timestamp`` (Unix seconds) and
``webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">``. A delivery can come twice, under one id.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

import certifi
import httpcore
import httpx
from sqlalchemy import Engine, Row, insert, select, update

from services.errors import Kind, Problem
from services.net.guard import NotPublic, Resolver, SystemResolver, public_addresses
from services.net.pinned import PinnedBackend
from services.settings import Settings
from services.storage.database import reading, writing
from services.storage.tables import webhook_attempts, webhook_deliveries

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 3600.0
_SECONDS = 10.0  # for one try
_RESOLVE_SECONDS = 5.0
_AT_ONCE = 16
_LOOKED_AT = 1000
_LONGEST_URL = 2_000
_GONE = 410  # by which a receiver says that it wants no more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver: ``status`` is the HTTP answer, ``error`` why there was none; ``at`` in Unix seconds."""

    delivery: str
    event: str
    number: int
    at: float
    status: int | None
    error: str | None
    seconds: float


async def check_address(url: str, resolver: Resolver, *, private: bool) -> None:
    """Refuse an address that webhooks may not go to.

    Raises ``webhook-invalid`` and ``webhook-blocked``. The host is checked again whenever a connection is made.
    """
    try:
        parsed = httpx.URL(url)
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused("webhook-invalid", f"The address is not a URL: {error}.") from None

    if len(url) > _LONGEST_URL or not parsed.host or parsed.userinfo:
        raise _refused("webhook-invalid", "A webhook's address has a host, no user name, and at most 2,000 characters.")
    if parsed.scheme not in (("https", "http") if private else ("https",)):
        raise _refused("webhook-blocked", f"Webhooks go to https{' and http' * private} addresses only.")
    if private:
        return

    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            answers = await resolver(parsed.raw_host.decode("ascii"), port)
        public_addresses(parsed.host, answers)
    except (NotPublic, OSError):  # a time-out is an OSError
        raise _refused("webhook-blocked", f"{parsed.host} does not resolve to public addresses only.") from None


def signature(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """Make the ``webhook-signature`` of a delivery. A secret ``whsec_...`` is base64, any other the key itself."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        with contextlib.suppress(binascii.Error):  # somebody's own secret that only looks so
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    digest = hmac.new(key, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def attempts(engine: Engine, job_id: str) -> list[Attempt]:
    """Read the delivery log of a job, oldest first."""
    query = (
        select(webhook_deliveries.c.event, webhook_attempts)
        .join(webhook_deliveries, webhook_deliveries.c.id == webhook_attempts.c.delivery_id)
        .where(webhook_deliveries.c.job_id == job_id)
        .order_by(webhook_attempts.c.delivery_id, webhook_attempts.c.number)
    )
    with reading(engine) as connection:
        return [
            Attempt(row.delivery_id, row.event, row.number, row.at, row.status, row.error, row.seconds)
            for row in connection.execute(query)
        ]


class Deliveries:
    """Call :meth:`deliver` about once a second. ``resolver``, ``connector`` and ``trust`` swap the network."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        resolver: Resolver | None = None,
        connector: httpcore.AsyncNetworkBackend | None = None,
        trust: ssl.SSLContext | None = None,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self._engine = engine
        self._private = settings.webhook_private
        self._attempts = settings.webhook_attempts
        self._resolver = resolver
        self._connector = connector
        self._trust = trust
        self._first_pause = first_pause

        # Pauses are kept here, on the monotonic clock: a clock that jumps delays nothing, and a process that starts
        # anew begins the last pause again.
        self._due: dict[str, tuple[int, float]] = {}

    def deliver(self) -> int:
        """Try every delivery whose pause is over; returns how many were tried."""
        now = time.monotonic()
        with reading(self._engine) as connection:
            pending = connection.execute(
                select(webhook_deliveries)
                .where(webhook_deliveries.c.state == "pending")
                # The least tried first: however many wait for a receiver that is away, the others get theirs.
                .order_by(webhook_deliveries.c.attempts, webhook_deliveries.c.id)
                .limit(_LOOKED_AT)
            ).all()

        self._due = {row.id: self._pause(row, now) for row in pending}
        due = [row for row in pending if self._due[row.id][1] <= now][: 4 * _AT_ONCE]
        if due:
            asyncio.run(self._deliver(due))
        return len(due)

    def _pause(self, row: Row[tuple[object, ...]], now: float) -> tuple[int, float]:
        known = self._due.get(row.id)
        if known is not None and known[0] == row.attempts:
            return known
        pause = min(_LONGEST_PAUSE, self._first_pause * 3 ** (row.attempts - 1)) if row.attempts else 0.0
        return row.attempts, now + pause

    async def _deliver(self, due: Sequence[Row[tuple[object, ...]]]) -> None:
        own = None if self._resolver else SystemResolver()
        resolver = self._resolver or own
        assert resolver is not None
        backend = self._connector if self._private else PinnedBackend(resolver, self._connector)
        trust = self._trust or ssl.create_default_context(cafile=certifi.where())
        free = asyncio.Semaphore(_AT_ONCE)
        try:
            async with httpcore.AsyncConnectionPool(ssl_context=trust, network_backend=backend) as pool:

                async def one(row: Row[tuple[object, ...]]) -> None:
                    async with free:
                        await self._try(pool, row)

                await asyncio.gather(*(one(row) for row in due))
        finally:
            if own is not None:
                own.close()

    async def _try(self, pool: httpcore.AsyncConnectionPool, row: Row[tuple[object, ...]]) -> None:
        if not await asyncio.to_thread(self._begin, row.id, row.attempts):
            return  # another process is at it

        at, begin = time.time(), time.monotonic()
        body: bytes = row.body.encode()
        status, error = await _post(pool, row.url, body, delivery=row.id, secret=row.secret, timestamp=int(at))
        tried = Attempt(row.id, row.event, row.attempts + 1, at, status, error, time.monotonic() - begin)
        await asyncio.to_thread(self._note, tried)

    def _begin(self, delivery: str, made: int) -> bool:
        same = (
            webhook_deliveries.c.id == delivery,
            webhook_deliveries.c.attempts == made,
            webhook_deliveries.c.state == "pending",
        )
        with writing(self._engine) as connection:
            return bool(connection.execute(update(webhook_deliveries).where(*same).values(attempts=made + 1)).rowcount)

    def _note(self, tried: Attempt) -> None:
        done = tried.status is not None and 200 <= tried.status < 300
        hopeless = tried.number >= self._attempts or tried.status == _GONE
        state = "delivered" if done else "failed" if hopeless else "pending"

        with writing(self._engine) as connection:
            found = connection.execute(
                update(webhook_deliveries).where(webhook_deliveries.c.id == tried.delivery).values(state=state)
            ).rowcount
            if found:  # else its job was deleted meanwhile
                connection.execute(
                    insert(webhook_attempts).values(
                        delivery_id=tried.delivery,
                        number=tried.number,
                        at=tried.at,
                        status=tried.status,
                        error=tried.error,
                        seconds=tried.seconds,
                    )
                )


async def _post(
    pool: httpcore.AsyncConnectionPool, address: str, body: bytes, *, delivery: str, secret: str, timestamp: int
) -> tuple[int | None, str | None]:
    """Send ``body``; returns the status of the answer, or why there was none. Redirects are answers like any other."""
    url = httpx.URL(address)
    target = httpcore.URL(
        scheme=url.scheme.encode(),
        host=url.raw_host,
        port=url.port or (443 if url.scheme == "https" else 80),
        target=url.raw_path,
    )
    headers = [
        (b"Host", url.netloc),
        (b"User-Agent", b"sightline"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(body)).encode()),
        (b"webhook-id", delivery.encode()),
        (b"webhook-timestamp", str(timestamp).encode()),
        (b"webhook-signature", signature(secret, delivery, timestamp, body).encode()),
    ]
    wait = dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)

    try:
        async with asyncio.timeout(_SECONDS):
            # Streamed, and closed unread: what the receiver says beyond its status is of no use, and has no bound.
            async with pool.stream(
                "POST", target, headers=headers, content=body, extensions={"timeout": wait}
            ) as answer:
                return answer.status, None
    except NotPublic:
        return None, "the host does not resolve to public addresses only"
    except (TimeoutError, httpcore.TimeoutException):
        return None, f"no answer within {_SECONDS:g} s"
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        return None, type(error).__name__


def _refused(code: str, detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        code,
        "Webhook address is not allowed",
        detail,
        pointer="/webhook/url",
        remedy="Give an https address of a public host, or let the operator set SIGHTLINE_WEBHOOK_PRIVATE.",
    )
