"""The ways to adapt an encoder, one file each, found by the file's name. Listing them imports no network.

A strategy is a module of this package with a ``STRATEGY`` (:class:`services.finetuning.strategies.base.Strategy`).
"""

from __future__ import annotations

import pkgutil

_SHARED = ("base", "sites")


def names() -> tuple[str, ...]:
    """List every strategy there is, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED))
