"""What a kind of job is: its name, its queue, the form of its parameters, and how its work is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from services.jobs.context import JobContext
from services.jobs.queues import Queue
from services.jobs.services import JobServices

P = TypeVar("P", bound=BaseModel)

Handler = Callable[[JobContext[P]], Mapping[str, Any]]
"""Does the job; what it returns is the job's ``result``, a JSON object."""


def no_check(services: JobServices, owner: str, parameters: BaseModel) -> None:
    """Accept whatever the form accepts."""


def no_work() -> Handler[Any]:
    """Stand for the work of a kind whose form alone is known here. Raises ``LookupError``."""
    raise LookupError("only the form of this kind of job is known here; services.job_runners has the work")


@dataclass(frozen=True, slots=True)
class JobKind(Generic[P]):
    """A kind of job. The gateway reads all but ``load``, which imports what only a worker needs.

    ``parameters`` forbids unknown fields. ``check`` runs when a job is submitted: it raises a
    :class:`~services.errors.Problem` with a pointer below ``/parameters`` where something named is not there or
    not the owner's. The platform's own kinds leave ``load`` to :mod:`services.job_runners`; a kind from a module of
    ``job_modules`` brings it, for example ``JobKind("count", "default", CountParameters, lambda: count)``.
    """

    name: str
    queue: Queue
    parameters: type[P]
    load: Callable[[], Handler[P]] = no_work
    check: Callable[[JobServices, str, P], None] = no_check
