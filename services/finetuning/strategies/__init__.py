"""The ways to adapt an encoder, one file each, found by the file's name. Listing them imports no network.

A strategy is a module of this package with a ``STRATEGY`` (:class:`services.finetuning.strategies.base.Strategy`).
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from services.errors import Kind, Problem

if TYPE_CHECKING:
    from services.finetuning.strategies.base import Strategy

_SHARED = ("base",)


def names() -> tuple[str, ...]:
    """Every strategy there is, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED))


def strategy(name: str) -> Strategy:
    """The strategy of a name, which imports torch. Raises ``unknown-method`` that lists the names."""
    if name not in names():
        raise Problem(
            Kind.INVALID,
            "unknown-method",
            "There is no such method",
            f"{name[:100]!r} is no way to adapt an encoder.",
            pointer="/parameters/method",
            remedy=f"Use one of {', '.join(names())}.",
        )
    found: Strategy = importlib.import_module(f"{__name__}.{name}").STRATEGY
    return found
