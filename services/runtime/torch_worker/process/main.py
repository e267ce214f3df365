"""Starts the worker, on a socket of the launcher's or on one of its own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from models.programs import PROGRAMS
from services.errors import Problem
from services.runtime.torch_worker.process import listening
from services.runtime.torch_worker.process.server import serve
from services.settings import Settings

_log = logging.getLogger("sightline.torch")


def serve_inherited(settings: Settings, descriptor: int, programs: Mapping[str, str] = PROGRAMS) -> int:
    """Serve the gateways of this machine on an inherited Unix socket, which only this user can connect to."""
    return _serve(settings, listening.inherited(descriptor), token="", programs=programs)


def serve_address(settings: Settings, host: str, port: int, programs: Mapping[str, str] = PROGRAMS) -> int:
    """Serve gateways that know the token on ``host`` and ``port``."""
    try:
        bound = listening.bound(host, port, settings.torch_token)
    except Problem as problem:
        _log.error("%s %s", problem.detail, problem.remedy, extra={"code": problem.code})
        return 2
    return _serve(settings, bound, token=settings.torch_token or "", programs=programs)


def _serve(settings: Settings, bound: socket.socket, *, token: str, programs: Mapping[str, str]) -> int:
    serve(settings, bound, token=token, programs=programs)
    logging.shutdown()
    os._exit(0)  # a step that still computes would keep the process
