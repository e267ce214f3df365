"""Every kind of job, by name: what the gateway reads to accept one. The work is in :mod:`services.job_runners`.

A new kind is a ``kind.py`` beside its work and a row in each of the two tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from services.batch import kind as batch
from services.dialog import kind as dialog
from services.evaluation import kind as benchmark
from services.evaluation import promotion_kind as promote
from services.finetuning import kind as finetune
from services.jobs.kind import JobKind
from services.pretraining import kind as pretrain

OWN: tuple[JobKind[Any], ...] = (
    batch.KIND,
    finetune.KIND,
    pretrain.KIND,
    benchmark.KIND,
    promote.KIND,
    *dialog.KINDS,
)


def registry(modules: Sequence[str] = ()) -> dict[str, JobKind[Any]]:
    """The platform's kinds and those of further ``modules``, each of which has a ``KIND`` or a tuple ``KINDS``.

    Raises ``ValueError`` where two kinds have one name.
    """
    found = {kind.name: kind for kind in OWN}
    for name in modules:
        module = import_module(name)
        kinds: tuple[JobKind[Any], ...] = getattr(module, "KINDS", None) or (module.KIND,)
        for kind in kinds:
            if kind.name in found:
                raise ValueError(f"Two kinds of job are called {kind.name!r}; the second is in {name}.")
            found[kind.name] = kind
    return found
