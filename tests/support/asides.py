"""Work that processes of their own do in tests."""

from __future__ import annotations

import os
import signal

from services.errors import Kind, Problem
from services.settings import Settings


def refuse(settings: Settings) -> bool:
    raise Problem(Kind.CONFLICT, "taken", "It is taken", "By somebody.", pointer="/x", remedy="Ask them.")


def fail(settings: Settings) -> bool:
    raise ZeroDivisionError("division by zero")


def talk(settings: Settings) -> bool:
    """Import a module that prints, and see the settings of who asked."""
    import this  # noqa: F401

    return settings.port == 4321


def die(settings: Settings) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True
