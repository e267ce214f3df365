"""Which addresses a caller may send the platform to: public unicast ones only (against request forgery, CWE-918)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the textual addresses of the host; raises ``OSError`` when there are none."""

_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_TEREDO = IPv6Network("2001::/32")
# Special by IANA's registries or by a cloud's own use, whatever the version of Python thinks of them.
_SPECIAL_V4 = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments; metadata of one cloud
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # the host agent of a cloud, on an address that looks public
)
_SPECIAL_V6 = (IPv6Network("3fff::/20"), IPv6Network("5f00::/16"), IPv6Network("2001:db8::/32"))


class NotPublic(Exception):
    """A host that cannot be shown to stand in the public internet. The message names the host and no address."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} does not resolve to public addresses only")
        self.host = host


def is_public(address: Address) -> bool:
    """Whether ``address`` is a public unicast one; addresses that carry an IPv4 address are as public as that one."""
    if isinstance(address, IPv4Address):
        return (
            address.is_global
            and not address.is_multicast
            and not address.is_reserved
            and not any(address in network for network in _SPECIAL_V4)
        )

    inner = _carried(address)
    if inner is not None:
        return is_public(inner)

    return (
        address in _GLOBAL_V6
        and address not in _TEREDO
        and address.is_global
        and not any(address in network for network in _SPECIAL_V6)
    )


def public_addresses(host: str, answers: Iterable[str]) -> list[Address]:
    """The addresses that ``host`` resolved to, in order and without repeats.

    Raises :class:`NotPublic` when there is none, or when any of them is not public: a host with one public and one
    private address is an attack, or a mistake that looks like one.
    """
    found: dict[Address, None] = {}
    for answer in answers:
        try:
            address = ip_address(answer)
        except ValueError:
            raise NotPublic(host) from None
        if not is_public(address):
            raise NotPublic(host)
        found[address] = None

    if not found:
        raise NotPublic(host)

    return list(found)


class SystemResolver:
    """The operating system's resolver, in threads of its own: a slow name server holds up nothing else.

    An address written as a host comes out as itself, in whatever notation (``0x7f.1`` as ``127.0.0.1``).
    """

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, "sightline-resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._pool, resolve, host, port)
        return answers

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of ``host`` from the operating system; blocks. Raises ``OSError``."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that IDNA refuses
        raise OSError(str(error)) from None
    return [str(answer[4][0]) for answer in answers]


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to ``address`` may end at: mapped, compatible, 6to4 or NAT64."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
