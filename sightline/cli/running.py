"""Keeps a server on the same data directory in step with what commands do to its repository.

The server's processes follow ``services.runtime.desired_state``: a model that comes is loaded, one that goes is
unloaded first, within a second and without a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from services.runtime.desired_state import DesiredState, DesiredStates
    from services.settings import Settings


def stamp(root: Path, name: str) -> int | None:
    """A number that another one takes the place of when the highest version of ``name`` is written or replaced."""
    from models.repository.reading import latest

    folder = latest(root, name)
    return None if folder is None else folder.stat().st_mtime_ns


def came(settings: Settings, name: str) -> None:
    """A model is there that was not: serve it, also if one of its name was taken out of service once."""
    desired, state = _desired_for(settings, name)
    if _runs(settings) or (state is not None and not state.loaded):
        desired.write(name, loaded=True)


def changed(settings: Settings, name: str) -> None:
    """The versions of a model are others now: serve those, unless the model was taken out of service."""
    desired, state = _desired_for(settings, name)
    if not _runs(settings) or (state is not None and not state.loaded):
        return
    if state is None:
        desired.write(name, loaded=True)
    else:
        desired.write(name, loaded=True, policy=state.policy)


def goes(settings: Settings, name: str) -> None:
    """A model is removed: no request may find it any more."""
    if _runs(settings):
        _desired_for(settings, name)[0].write(name, loaded=False)


def gone(settings: Settings) -> None:
    """Models were removed: whose they were is forgotten."""
    if _runs(settings):
        _desired_for(settings, "")[0].touch()


def _runs(settings: Settings) -> bool:
    from sightline.launcher.rundir import read_server

    return read_server(settings.run_dir) is not None


def _desired_for(settings: Settings, name: str) -> tuple[DesiredStates, DesiredState | None]:
    from services.runtime.desired_state import DesiredStates

    desired = DesiredStates.of(settings)
    desired.refresh()
    return desired, desired.states.get(name)
