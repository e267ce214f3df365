"""Who may call: API keys by header, scopes by route, and what guards a server that asks for no key.

Without keys the server listens on loopback only, and there a web page is the danger: it may send requests to
``localhost``, or have its own name resolve to it (DNS rebinding). So a keyless server answers only to loopback names
in ``Host``, and refuses a foreign ``Origin``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import time
from collections import OrderedDict
from typing import Literal, Protocol, cast

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.middleware.limits import RateLimiter
from gateway.problems import problem_response
from gateway.request.request_context import ApiScope, Caller, RequestContext
from services.errors import Kind, Problem
from services.storage import job_tokens

PUBLIC = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
"""Answered to anybody; everything else needs a key as soon as keys are asked for."""

KEY_SECONDS = 3.0
"""How long an answer of the key store is believed: a revoked key works this much longer at most."""

_CACHED = 4096
_JOB = b"Bearer " + job_tokens.MARK.encode()
"""The token of a running job is looked up even where no key is asked for: it says that nobody waits at a screen."""
_REMEDY = "Send `Authorization: Bearer <key>` or `X-API-Key: <key>`; `sightline keys create` makes one."
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")


ANONYMOUS = Caller("anonymous", frozenset({"infer", "jobs", "admin"}), sees_all=True)
METRICS = Caller("metrics", frozenset({"metrics"}))


def allow(request: Request, scope: ApiScope) -> Caller:
    """Return the caller of ``request`` if its key has ``scope``, else 401 or 403. Every route not public asks."""
    caller = RequestContext.of(request.scope).caller
    if caller is None:
        raise _key_missing()
    if not caller.may(scope):
        raise Problem(
            Kind.FORBIDDEN,
            "scope-missing",
            "The key may not do this",
            f"Needed: {scope!r}; the key {caller.key_id} has {', '.join(sorted(caller.scopes)) or 'none'}.",
            remedy=f"Use a key with the scope {scope!r}.",
        )
    return caller


class StoredKey(Protocol):
    """What the gateway reads of a key; ``services.storage.keys.ApiKey`` is one."""

    @property
    def id(self) -> str: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def job_id(self) -> str | None: ...
    @property
    def sees_all(self) -> bool: ...


class KeySource(Protocol):
    """What the gateway asks of the key store; ``services.storage.keys.KeyStore`` is one. Called in threads."""

    def authenticate(self, secret: str) -> StoredKey | None: ...

    def any(self) -> bool: ...


class Keys:
    """Asks the key store, and remembers its answers for ``KEY_SECONDS``; secrets are remembered as hashes only."""

    def __init__(
        self,
        source: KeySource,
        auth: Literal["auto", "required", "off"],
        *,
        exposed: bool,
        metrics_token: str | None = None,
    ) -> None:
        self._source = source
        self._metrics = hashlib.sha256(metrics_token.encode()).digest() if metrics_token else None
        self._auth = auth

        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._wanted = auth == "required" or (auth == "auto" and exposed)
        self._wanted_until = float("inf") if self._wanted or auth == "off" else 0.0

    async def required(self) -> bool:
        """Return whether a key is asked for. Once it is, it stays so: revoking the last key opens nothing."""
        if not self._wanted and time.monotonic() >= self._wanted_until:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.shield(self._looking)
        return self._wanted

    async def _look(self) -> None:
        try:
            self._wanted = await asyncio.to_thread(self._source.any)
            self._wanted_until = time.monotonic() + KEY_SECONDS
        finally:
            self._looking = None

    async def identify(self, head: dict[bytes, bytes]) -> Caller | None:
        """Find the caller of a request with these headers; ``None`` when a key is needed and there is none.

        Raises ``key-invalid`` for a key that is not known, ``key-malformed`` for a header that holds none.
        """
        keyless = not self._wanted and not await self.required()
        if keyless and not head.get(b"authorization", b"").startswith(_JOB):
            return ANONYMOUS

        secret = _secret(head)
        if secret is None:
            return None

        digest = hashlib.sha256(secret).digest()
        if self._metrics is not None and hmac.compare_digest(digest, self._metrics):
            return METRICS

        known = self._known.get(digest)
        if known is not None and known[0] > time.monotonic():
            caller = known[1]
        else:
            task = self._asked.get(digest)
            if task is None:
                task = self._asked[digest] = asyncio.create_task(self._ask(digest, secret))
            caller = await asyncio.shield(task)

        if caller is None:
            raise Problem(
                Kind.UNAUTHENTICATED,
                "key-invalid",
                "The API key is not valid",
                "The key is unknown or was revoked.",
                remedy="Check the key; `sightline keys list` shows which exist.",
            )
        return caller

    async def _ask(self, digest: bytes, secret: bytes) -> Caller | None:
        try:
            key = await asyncio.to_thread(self._source.authenticate, secret.decode("ascii", "replace"))
            caller = None
            if key is not None:
                scopes = cast("frozenset[ApiScope]", frozenset(key.scopes))
                caller = Caller(key.id, scopes, key.rate, background=key.job_id is not None, sees_all=key.sees_all)
            self._known[digest] = (time.monotonic() + KEY_SECONDS, caller)
            self._known.move_to_end(digest)
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
            return caller
        finally:
            del self._asked[digest]


class KeyGate:
    """ASGI middleware: says who calls, counts the call against the key's rate, guards a keyless server."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys, limiter: RateLimiter, public: frozenset[str], origins: tuple[str, ...]
    ) -> None:
        self._app = app
        self._keys = keys
        self._limiter = limiter
        self._public = public
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._admit(scope)
            except Problem as problem:
                await problem_response(problem, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        if scope["path"] in self._public:
            return  # a probe needs no key, and must not fail with the key store

        request_context = RequestContext.of(scope)
        caller = request_context.caller = await self._keys.identify(request_context.head)
        if caller is None:
            raise _key_missing()
        if caller is ANONYMOUS:
            _refuse_foreign(request_context.head, self._origins)

        verdict = self._limiter.check(caller.key_id, caller.rate)
        if verdict is None:
            return

        request_context.headers.extend(verdict.headers())
        if not verdict.allowed:
            raise Problem(
                Kind.TOO_MANY,
                "rate-limited",
                "Too many requests",
                f"The key may send {verdict.limit} requests at once; the next may come in {verdict.retry_after:.2f} s.",
                remedy="Wait as long as Retry-After says.",
                retry_after=verdict.retry_after,
            )


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own: ``127.0.0.0/8``, ``::1``, ``localhost`` and below."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _refuse_foreign(head: dict[bytes, bytes], origins: frozenset[str]) -> None:
    host = head.get(b"host", b"").decode("latin-1")
    match = _HOST.fullmatch(host)
    if match is None or not is_loopback(match[1]):
        raise Problem(
            Kind.FORBIDDEN,
            "host-refused",
            "The server does not answer to this name",
            f"Host is {host!r}; a server without API keys answers to localhost and loopback addresses only.",
            remedy="Use http://localhost, or create an API key with `sightline keys create`.",
        )

    origin = head.get(b"origin", b"").decode("latin-1")
    if origin and origin not in origins and origin.partition("://")[2] != host:
        raise Problem(
            Kind.FORBIDDEN,
            "origin-refused",
            "Pages of other sites may not call",
            f"Origin is {origin!r}; a server without API keys answers to its own pages only.",
            remedy="Name the origin in SIGHTLINE_CORS_ORIGINS, or create an API key.",
        )


def _secret(head: dict[bytes, bytes]) -> bytes | None:
    authorization = head.get(b"authorization")
    if authorization is None:
        return head.get(b"x-api-key")

    kind, _, secret = authorization.partition(b" ")
    secret = secret.strip()
    if kind.lower() != b"bearer" or not secret:
        raise Problem(
            Kind.UNAUTHENTICATED,
            "key-malformed",
            "The Authorization header holds no key",
            "Authorization is not of the form `Bearer <key>`.",
            remedy=_REMEDY,
        )
    return secret


def _key_missing() -> Problem:
    return Problem(
        Kind.UNAUTHENTICATED,
        "key-missing",
        "An API key is needed",
        "The request carries no key.",
        remedy=_REMEDY,
    )
