"""Where the torch worker is, and how both sides prove that they belong to one platform.

On one machine it is a socket in the run directory, which only its owner can open. Elsewhere it is an address inside a
cluster: there the worker sends a nonce, and a gateway answers with its HMAC under the token that both were given, so
that the token itself never travels.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.settings import Settings

SOCKET = "torch.sock"
VERSION = 1
"""Of the protocol; both sides say theirs."""

_LONGEST_PATH = 107
_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``path`` on this machine, or ``host`` and ``port``; ``token`` is empty for a socket in a private folder."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    token: str = ""

    @staticmethod
    def of(settings: Settings) -> Endpoint:
        """Return where gateways of these settings look for it."""
        if settings.torch_url is None:
            return Endpoint(path=settings.run_dir / SOCKET)
        host, _, port = settings.torch_url.rpartition(":")
        return Endpoint(host=host.strip("[]"), port=int(port), token=settings.torch_token or "")

    def __str__(self) -> str:
        return "on this machine" if self.path is not None else f"at {self.host}:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises ``OSError``."""
        if self.path is None:
            return await asyncio.open_connection(self.host, self.port)
        with _short(self.path) as path:
            return await asyncio.open_unix_connection(path)


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can open; one that a killed server left is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as short:
            listening.bind(short)
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def proof(token: str, nonce: str) -> str:
    """Return what a gateway answers to the worker's nonce."""
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits a socket's address, which takes 107 bytes."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
