"""Whose models are whose: which ones a key sees, and which names its jobs may write.

A model that a key's job has made is that key's and the administrators' until it is shared. To everybody else it is
not there: they are told what they are told of a name that nobody has given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from models.catalog.card import MODEL_NAME
from models.repository.locking import Busy
from models.repository.ownership import Ownership, ownership_of
from models.repository.reading import RepositoryError, installed_versions, latest, pipelines_on
from services.errors import Kind, Problem
from services.runtime.problems import model_not_found
from services.storage.keys import KeyStore


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at models: the id of a key, and whether it is an administrator's."""

    key: str
    sees_all: bool = False

    @classmethod
    def of(cls, engine: Engine, key: str) -> Viewer:
        """The key that a job belongs to; one transaction."""
        return cls(key, KeyStore(engine).is_admin(key))


class Owners:
    """The owners of the models in the repository ``root``, each read once a generation.

    ``generation`` gives another value once any process has loaded, unloaded, shared or removed a model
    (:attr:`services.runtime.protocol.Backend.generation`); a job, which looks once, needs none. From one thread.
    """

    def __init__(self, root: Path, generation: Callable[[], object] = lambda: None) -> None:
        self._root = root
        self._generation = generation
        self._seen: object = None
        self._known: dict[str, Ownership | None] = {}

    def of(self, name: str) -> Ownership | None:
        """Whose ``name`` is, ``shared`` as what it is a part of; ``None`` for the platform's and what is not there."""
        generation = self._generation()
        if generation != self._seen:
            self._known.clear()
            self._seen = generation
        if name in self._known:
            return self._known[name]

        if not MODEL_NAME.fullmatch(name):
            return None
        found = self._read(name)
        # A name that nobody has given yet may be given before the next generation.
        if found is not None or latest(self._root, name) is not None:
            self._known[name] = found
        return found

    def sees(self, viewer: Viewer, name: str) -> bool:
        """Return whether a model is there for ``viewer``; true of names that nobody has given."""
        if viewer.sees_all:
            return True
        ownership = self.of(name)
        return ownership is None or ownership.shared or ownership.key == viewer.key

    def require(self, viewer: Viewer, name: str) -> None:
        """Raise ``model-not-found`` where the model is another's, as if it were not there."""
        if not self.sees(viewer, name):
            raise model_not_found(name)

    def owns(self, viewer: Viewer, name: str) -> bool:
        """Return whether a job of the key of ``viewer`` has made a model."""
        ownership = self.of(name)
        return ownership is not None and ownership.key == viewer.key

    def _read(self, name: str) -> Ownership | None:
        ownership = ownership_of(self._root, name)
        if ownership is None or ownership.part_of is None or not MODEL_NAME.fullmatch(ownership.part_of):
            return ownership
        whole = ownership_of(self._root, ownership.part_of)
        shared = whole is not None and whole.key == ownership.key and whole.shared
        return ownership.model_copy(update={"shared": shared})


def check_names(root: Path, key: str, names: Iterable[str], *, family: str) -> None:
    """Refuse names of which a job of ``key`` may not write versions: one of another, or of another family.

    Raises ``model-name-taken``, which says the same whoever has taken the name.
    """
    for name in names:
        existing = installed_versions(root, name)
        if not existing:
            continue

        ownership = ownership_of(root, name)
        alike = all(one.card is not None and one.card.family == family for one in existing)
        if ownership is None or ownership.key != key or not alike:
            raise Problem(
                Kind.CONFLICT,
                "model-name-taken",
                "The model name is taken",
                f"The name {name!r} cannot be given to this model.",
                pointer="/parameters/name",
                remedy="Choose another name.",
            )


def refuse_needed(root: Path, names: Collection[str]) -> None:
    """Refuse to remove models that a pipeline outside of ``names`` is made of. Raises ``model-needed``."""
    needed = next(pipelines_on(root, names), None)
    if needed is not None:
        _, part = needed
        raise Problem(
            Kind.CONFLICT,
            "model-needed",
            "The model is part of another",
            f"A pipeline is made of {part.name!r}.",  # not whose, or which: it may be there for others only
            pointer="/name",
            remedy="Remove the model that it was made with, or leave it.",
        )


@contextmanager
def problems() -> Iterator[None]:
    """What the repository refuses, as problems."""
    try:
        yield
    except Busy as error:
        detail, remedy = f"{error}.", f"{error.remedy}."
        raise Problem(
            Kind.UNAVAILABLE, "model-busy", "The model is being written", detail, remedy=remedy, retry_after=5.0
        ) from error
    except RepositoryError as error:
        detail, remedy = f"{error}.", f"{error.remedy}."
        raise Problem(
            Kind.CONFLICT, "model-unchangeable", "The model cannot be changed so", detail, remedy=remedy
        ) from error
