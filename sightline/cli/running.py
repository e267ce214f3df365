"""Keeps a server on the same data directory in step with what commands do to its repository.

What is told goes through ``services.runtime.announce``: a model that comes is loaded, one that goes is unloaded first,
within a second and without a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from services.settings import Settings


def stamp(root: Path, name: str) -> int | None:
    """A number that another one takes the place of when the highest version of ``name`` is written or replaced."""
    from models.repository.reading import latest

    folder = latest(root, name)
    return None if folder is None else folder.stat().st_mtime_ns


def came(settings: Settings, name: str) -> None:
    """A model is there that was not: serve it, also if one of its name was taken out of service once."""
    from services.runtime import announce

    state = announce.state_of(settings, name)
    if _runs(settings) or (state is not None and not state.loaded):
        announce.serve(settings, name)


def changed(settings: Settings, name: str) -> None:
    """The versions of a model are others now: serve those, unless the model was taken out of service."""
    from services.runtime import announce

    state = announce.state_of(settings, name)
    if _runs(settings) and (state is None or state.loaded):
        announce.serve(settings, name)


def goes(settings: Settings, name: str) -> None:
    """A model is removed: no request may find it any more."""
    from services.runtime import announce

    if _runs(settings):
        announce.withdraw(settings, name)


def gone(settings: Settings) -> None:
    """Models were removed: whose they were is forgotten."""
    from services.runtime import announce

    if _runs(settings):
        announce.touch(settings)


def _runs(settings: Settings) -> bool:
    from sightline.launcher.rundir import read_server

    return read_server(settings.run_dir) is not None
