"""What a kind of job is: its name, its queue, the form of its parameters, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from services.jobs.context import JobContext
    from services.jobs.services import JobServices

Queue = Literal["batch", "finetune", "benchmark", "default"]
QUEUES: tuple[Queue, ...] = ("batch", "finetune", "benchmark", "default")

P = TypeVar("P", bound=BaseModel)

Handler = Callable[["JobContext[P]"], Mapping[str, Any]]
"""Does the job; what it returns is the job's ``result``, a JSON object."""


def no_check(services: JobServices, owner: str, parameters: BaseModel) -> None:
    """Nothing to check beyond the form."""


@dataclass(frozen=True, slots=True)
class JobKind(Generic[P]):
    """A kind of job. The gateway reads all but ``load``, which imports what only a worker needs.

    ``parameters`` forbids unknown fields. ``check`` runs when a job is submitted: it raises a
    :class:`~services.errors.Problem` with a pointer below ``/parameters`` where something named is not there or
    not the owner's.
    """

    name: str
    queue: Queue
    parameters: type[P]
    load: Callable[[], Handler[P]]
    check: Callable[[JobServices, str, P], None] = no_check
