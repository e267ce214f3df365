"""The one way to tell every process of a data folder that a model is there, has other versions, or goes.

What is told stands in :mod:`services.runtime.desired_state`; processes that serve follow it within a second, and those
that start later find it. Loading through the API writes there too, once it has worked. Functions block for the disk.
"""

from __future__ import annotations

from services.runtime.desired_state import DesiredState, DesiredStates
from services.runtime.problems import state_unwritable
from services.runtime.version_policy import LATEST, VersionPolicy
from services.settings import Settings


def serve(settings: Settings, *names: str) -> None:
    """Let all processes serve the newest versions of ``names``, also of one that was taken out of service once.

    A policy for versions that somebody asked for stays. Raises :class:`Problem` where it cannot be written.
    """
    desired = _desired(settings)
    for name in names:
        state = desired.states.get(name)
        _write(desired, name, loaded=True, policy=LATEST if state is None else state.policy)


def withdraw(settings: Settings, name: str) -> None:
    """Let no process serve ``name`` any more. Raises :class:`Problem` where it cannot be written."""
    _write(_desired(settings), name, loaded=False, policy=LATEST)


def touch(settings: Settings) -> None:
    """Let all processes look at the repository again: who may see a model is another now, or models are gone."""
    _desired(settings).touch()


def state_of(settings: Settings, name: str) -> DesiredState | None:
    """Return what was last asked for about ``name``; ``None`` where nobody has."""
    return _desired(settings).states.get(name)


def _write(desired: DesiredStates, name: str, *, loaded: bool, policy: VersionPolicy) -> None:
    try:
        desired.write(name, loaded=loaded, policy=policy)
    except OSError as error:
        raise state_unwritable(error) from error


def _desired(settings: Settings) -> DesiredStates:
    desired = DesiredStates.of(settings)
    desired.refresh()
    return desired
