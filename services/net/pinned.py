"""A network backend for httpcore that resolves once, checks every address, and connects to what it checked.

The check sits where the connection is made, so no redirect, pooled connection or second look-up can get around it;
TLS still names and verifies the host.
"""

from __future__ import annotations

from collections.abc import Iterable

import httpcore

from services.net.guard import NotPublic, Resolver, public_addresses

_MOST_ADDRESSES = 4


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """``connector`` opens the socket to an address in text; it is given to swap the network in tests."""

    def __init__(self, resolver: Resolver, connector: httpcore.AsyncNetworkBackend | None = None) -> None:
        self._resolver = resolver
        self._connector = connector or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the signature is httpcore's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of ``host`` that answers; ``timeout`` seconds for each.

        Raises :class:`NotPublic` or ``httpcore.ConnectError``.
        """
        try:
            answers = await self._resolver(host, port)
        except OSError:
            # The same answer as for a private host: names of the inside are nobody's business.
            raise NotPublic(host) from None

        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in public_addresses(host, answers)[:_MOST_ADDRESSES]:
            try:
                return await self._connector.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error

        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise NotPublic(path)

    async def sleep(self, seconds: float) -> None:
        await self._connector.sleep(seconds)
