"""Every kind of job, by name. A new kind is a module here with its ``KIND``, and a line in ``_OWN``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from services.jobs.kind import JobKind

_OWN = (
    "services.batch.kind",
    "services.finetuning.kind",
    "services.pretraining.kind",
    "services.evaluation.kind",
    "services.evaluation.promotion_kind",
)


def registry(modules: Sequence[str] = ()) -> dict[str, JobKind[Any]]:
    """The platform's kinds and those of further ``modules``, each of which has a ``KIND`` or a tuple ``KINDS``."""
    found: dict[str, JobKind[Any]] = {}
    for name in (*_OWN, *modules):
        module = import_module(name)
        kinds: tuple[JobKind[Any], ...] = getattr(module, "KINDS", None) or (module.KIND,)
        for kind in kinds:
            if kind.name in found:
                raise ValueError(f"Two kinds of job are called {kind.name!r}; the second is in {name}.")
            found[kind.name] = kind
    return found
