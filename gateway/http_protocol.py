"""uvicorn's HTTP/1.1 protocol with what it leaves open: how large and how slow the head of a request may be, and
bodies of requests that offer to change the protocol."""

from __future__ import annotations

import asyncio

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.problems import MEDIA_TYPE, problem_body
from services.errors import Kind, Problem

HEAD_BYTES = 128 * 1024
HEAD_SECONDS = 20.0


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose next request does not show its whole head in time, or never ends it.

    ``Upgrade: h2c``, which some clients send with every request, is declined by answering in HTTP/1.1. The parser
    takes such a request to end with its head; its body would be lost, or read as the next request. So the body is
    counted here.
    """

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _uncounted = 0
    """Bytes that are still to come of a body that the parser does not know of."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._uncounted:
            self._count_body(data)
            return

        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._watch_head(0)
            rest = data[upgrade.args[0] :]
            if rest:
                self.data_received(rest)
            return
        except httptools.HttpParserError:
            self._refuse(400, "http-malformed", "The request is not HTTP/1.1")
            return

        self._watch_head(len(data))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            fields = dict(self.headers)
            if b"transfer-encoding" in fields:
                self._refuse(400, "upgrade-with-body", "An upgrade cannot be offered with a chunked body")
                return
            self._uncounted = int(fields.get(b"content-length", b"0"))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._uncounted:
            super().on_message_complete()

    def _count_body(self, data: bytes) -> None:
        body, rest = data[: self._uncounted], data[self._uncounted :]
        self._uncounted -= len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            cycle.more_body = self._uncounted > 0
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()
        if rest:
            self.data_received(rest)

    def _watch_head(self, received: int) -> None:
        if self._between_requests():
            self._head_bytes += received
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "head-too-large", "The head of the request is too large")
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_overdue)
        elif self._head_timer is not None:
            self._stop_timer()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._head_bytes = 0

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, code: str, title: str) -> None:
        if self.transport.is_closing():
            return
        problem = Problem(Kind.MALFORMED, code, title, f"{title}.", remedy="Send one well-formed HTTP/1.1 request.")
        body = orjson.dumps(problem_body(problem, "none") | {"status": status})
        reason = {400: "Bad Request", 431: "Request Header Fields Too Large"}[status]
        head = (
            f"HTTP/1.1 {status} {reason}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
