"""The sockets that the worker takes connections on."""

from __future__ import annotations

import ipaddress
import socket

from services.errors import Kind, Problem

_BACKLOG = 64


def inherited(descriptor: int) -> socket.socket:
    """The launcher's socket, which is there before the worker is and after it has died."""
    return socket.socket(fileno=descriptor)


def bound(host: str, port: int, token: str | None) -> socket.socket:
    """A socket for gateways of other machines. Raises ``torch-token-missing`` and ``address-unusable``."""
    if not token and not _is_loopback(host):
        raise Problem(
            Kind.CONFLICT,
            "torch-token-missing",
            "Anybody could use the torch worker",
            f"{host} can be reached by other machines, and SIGHTLINE_TORCH_TOKEN is not set.",
            remedy="Set SIGHTLINE_TORCH_TOKEN, the same for gateways and the worker, or bind 127.0.0.1.",
        )

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Problem(
            Kind.CONFLICT,
            "address-unusable",
            "The torch worker cannot listen",
            f"{host}:{port}: {error.strerror}.",
            remedy="Name another --host or --port.",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
