"""Images by address: https only, public hosts only, bounded in bytes, time and redirects; off unless switched on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import certifi
import httpcore
import httpx

from services.errors import Kind, Problem
from services.media.intake import Limits
from services.net.guard import NotPublic, Resolver, SystemResolver
from services.net.pinned import PinnedBackend
from services.settings import Settings

_LONGEST_URL = 4096
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = [
    (b"User-Agent", b"sightline"),
    (b"Accept", b"image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff, image/avif"),
    (b"Accept-Encoding", b"identity"),  # so that the byte cap counts what is kept
]
_CONNECT_SECONDS = 5.0


def _nobody(reason: str) -> None:
    """Counts nothing."""


class RemoteImages:
    """Fetches images for requests. One instance serves one event loop; :meth:`aclose` closes its connections.

    ``blocked`` is called with the reason (``disabled``, ``url``, ``scheme``, ``credentials``, ``port``, ``host``,
    ``address``, ``redirects``, ``size``, ``encoding``) of every refusal, for a counter. No proxy, no cookie and no
    credential is ever used; the environment is not read. ``resolver``, ``connector`` and ``trust`` swap the network.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        blocked: Callable[[str], None] = _nobody,
        resolver: Resolver | None = None,
        connector: httpcore.AsyncNetworkBackend | None = None,
        trust: ssl.SSLContext | None = None,
        ports: frozenset[int] = frozenset({443}),
        max_connections: int = 16,
    ) -> None:
        self._enabled = settings.fetch_images
        self._timeout = settings.fetch_timeout
        self._redirects = settings.fetch_redirects
        self._hosts = tuple(host.lower().rstrip(".") for host in settings.fetch_hosts)
        self._limits = Limits.of(settings)
        self._blocked = blocked
        self._resolver = resolver
        self._connector = connector
        self._trust = trust
        self._ports = ports
        self._max_connections = max_connections
        self._own_resolver: SystemResolver | None = None
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def fetch(self, url: str) -> bytes:
        """The body of ``url``, at most ``max_image_bytes`` long; what it holds is not looked at.

        Raises :class:`Problem`: ``image-url-disabled``, ``image-url-invalid``, ``image-url-blocked``,
        ``image-url-unreachable``, ``image-url-status``, ``image-url-timeout``, ``image-too-large``, ``image-empty``.
        """
        if not self._enabled:
            raise self._refuse(
                "disabled",
                "image-url-disabled",
                "Images by address are switched off",
                "This server does not fetch images.",
                "Send the image itself, or ask the operator to set SIGHTLINE_FETCH_IMAGES.",
            )

        try:
            async with asyncio.timeout(self._timeout):
                return await self._follow(self._parse(url))
        except (TimeoutError, httpcore.TimeoutException):
            raise _failed("image-url-timeout", f"It took more than {self._timeout:g} seconds.") from None
        except NotPublic:
            raise self._refuse(
                "address",
                "image-url-blocked",
                "Image address is not allowed",
                "The host does not resolve to public addresses only.",
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _failed("image-url-unreachable", f"The host could not be read ({type(error).__name__}).") from None

    async def aclose(self) -> None:
        """Close kept connections; a later :meth:`fetch` opens new ones."""
        pool, self._pool = self._pool, None
        resolver, self._own_resolver = self._own_resolver, None
        if pool is not None:
            await pool.aclose()
        if resolver is not None:
            resolver.close()

    async def _follow(self, url: httpx.URL) -> bytes:
        for _ in range(self._redirects + 1):
            body = await self._get(url)
            if isinstance(body, bytes):
                return body
            url = body
        raise self._refuse(
            "redirects",
            "image-url-blocked",
            "Image address is not allowed",
            f"It redirects more than {self._redirects} times.",
        )

    async def _get(self, url: httpx.URL) -> bytes | httpx.URL:
        """The body, or where the answer points to, checked as the first address was."""
        request = httpcore.URL(scheme=b"https", host=url.raw_host, port=url.port or 443, target=url.raw_path)
        headers = [(b"Host", url.netloc), *_HEADERS]
        wait = {"connect": _CONNECT_SECONDS, "read": self._timeout, "write": self._timeout, "pool": self._timeout}
        async with self._connections().stream("GET", request, headers=headers, extensions={"timeout": wait}) as answer:
            fields = {name.lower(): value for name, value in answer.headers}
            if answer.status in _REDIRECTS and b"location" in fields:
                return self._parse(fields[b"location"].decode("latin-1"), base=url)
            if answer.status != 200:
                raise _failed("image-url-status", f"The host answered {answer.status}.")
            return await self._body(answer, fields)

    async def _body(self, answer: httpcore.Response, fields: dict[bytes, bytes]) -> bytes:
        if fields.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            self._blocked("encoding")
            raise _failed("image-url-status", "The host compressed its answer without being asked to.")

        announced = fields.get(b"content-length", b"0")
        try:
            self._check_size(int(announced) or 1)
            parts, received = [], 0
            async for part in answer.aiter_stream():
                received += len(part)
                self._check_size(received)
                parts.append(part)
        except ValueError:
            raise _failed("image-url-unreachable", "The host's answer makes no sense.") from None

        self._limits.check_bytes(received)
        return b"".join(parts)

    def _check_size(self, count: int) -> None:
        try:
            self._limits.check_bytes(count)
        except Problem:
            self._blocked("size")
            raise

    def _parse(self, text: str, base: httpx.URL | None = None) -> httpx.URL:
        """An address that may be asked, as far as it can be told before resolving its host."""
        try:
            if len(text) > _LONGEST_URL:
                raise httpx.InvalidURL(f"it has more than {_LONGEST_URL:,} characters")
            url = httpx.URL(text) if base is None else base.join(text)
            port = url.port or 443
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise self._refuse(
                "url", "image-url-invalid", "Image address is not a URL", f"The address is not a URL: {error}."
            ) from None

        if url.scheme != "https":
            raise self._deny("scheme", f"Only https is fetched, not {url.scheme or 'an address without a scheme'}.")
        if url.userinfo:
            raise self._deny("credentials", "An address with a user name or password is not fetched.")
        if port not in self._ports:
            raise self._deny("port", f"Port {port} is not fetched from.")

        host = url.raw_host.decode("ascii").lower().rstrip(".")
        if not host:
            raise self._deny("host", "The address has no host.")
        if self._hosts and not any(_matches(host, allowed) for allowed in self._hosts):
            raise self._deny("host", f"Host {host} is not one that this server fetches from.")

        return url

    def _deny(self, reason: str, detail: str) -> Problem:
        return self._refuse(reason, "image-url-blocked", "Image address is not allowed", detail)

    def _refuse(self, reason: str, code: str, title: str, detail: str, remedy: str = "") -> Problem:
        self._blocked(reason)
        remedy = remedy or "Send an https address of a public host, or the image itself."
        return Problem(Kind.INVALID, code, title, detail, remedy=remedy)

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            resolver = self._resolver
            if resolver is None:
                resolver = self._own_resolver = SystemResolver()
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=self._trust or _public_trust(),
                max_connections=self._max_connections,
                max_keepalive_connections=self._max_connections,
                keepalive_expiry=15.0,
                network_backend=PinnedBackend(resolver, self._connector),
            )
        return self._pool


def _matches(host: str, allowed: str) -> bool:
    """``example.com`` is that host alone, ``*.example.com`` every host below it."""
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _public_trust() -> ssl.SSLContext:
    """The system's certificate authorities, and certifi's where a slim system has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _failed(code: str, detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        code,
        "Image could not be fetched",
        detail,
        remedy="Check that the address opens for everybody, or send the image itself.",
    )
