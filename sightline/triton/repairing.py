"""Brings a model of a tritonserver back: takes it out, loads it anew, and ends what stays behind."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from sightline.triton.api import Api, Unanswered

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
WELL_SECONDS = 10.0
"""A repaired model that has been well for this long is repaired at once when it breaks again."""

UNLOAD_SECONDS = 0.5
"""A dead model that was asked for something is being unloaded for ever; it can be loaded all the same."""

LEFT_SECONDS = 15.0
"""Processes of a model that was loaded anew get this long to finish what they began; some would stay for ever."""

_log = logging.getLogger("sightline.triton")


class Processes(Protocol):
    """The processes of the server, to which its API has no way."""

    def kill_server(self) -> None:
        """End it; its supervisor starts it again."""
        ...

    def stubs(self, model: str) -> Set[int]:
        """Those that run a model, without the dead."""
        ...


@dataclass(slots=True)
class _Model:
    """When a model may be repaired again: one that breaks each time it is loaded is left longer and longer."""

    pause: float = 0.0
    due: float = 0.0
    well_since: float = math.inf
    owed: Mapping[str, object] | None = None
    """The configuration of a model that was taken out and could not be loaded again yet."""


@dataclass(slots=True)
class Repairs:
    """The repairs of one server."""

    api: Api
    processes: Processes
    clock: Callable[[], float]
    _models: dict[str, _Model] = field(default_factory=dict)
    _left: list[tuple[float, str, Set[int]]] = field(default_factory=list)
    """When to end which processes of which model."""

    def forget(self) -> None:
        """The server is gone, and a new one loads everything by itself."""
        self._models.clear()
        self._left.clear()

    def saw(self, model: str, *, healthy: bool) -> None:
        """Take note of how a version of the model was just found."""
        held = self._models.setdefault(model, _Model())
        held.well_since = min(held.well_since, self.clock()) if healthy else math.inf
        if self.clock() - held.well_since >= WELL_SECONDS:
            held.pause = 0.0

    def may(self, model: str) -> bool:
        """Return whether it is time to repair the model, or to repair it again."""
        return self.clock() >= self._models.setdefault(model, _Model()).due

    def owes(self, model: str) -> bool:
        """Return whether the model is away because of a repair, not because somebody wanted it so."""
        held = self._models.get(model)
        return held is not None and held.owed is not None

    async def repair(self, model: str, reason: str) -> bool:
        """Unload and load, with the versions that were served; whether that was done."""
        held = self._models.setdefault(model, _Model())
        held.pause = min(LONGEST_PAUSE, held.pause * 2 or FIRST_PAUSE)
        held.due = self.clock() + held.pause
        began = self.clock()
        self._left.append((began + LEFT_SECONDS, model, self.processes.stubs(model)))
        try:
            config = await self.api.config(model)
            trouble = await self.api.unload(model)
            if not trouble:
                held.owed = config
                await self._await_unloaded(model)
                trouble = await self._load(model, config)
        except Unanswered as error:
            trouble = str(error)

        if trouble:
            _log.error("%s fails (%s) and could not be loaded anew: %s", model, reason, trouble)
            return False

        _log.warning("%s was loaded anew in %.1f s, since: %s", model, self.clock() - began, reason)
        return True

    async def catch_up(self, served: Set[str]) -> None:
        """Load what was taken out and not loaded again, unless somebody else has; end what was left behind."""
        for model, held in self._models.items():
            if model in served:
                held.owed = None
            elif held.owed is not None and self.clock() >= held.due:
                held.pause = min(LONGEST_PAUSE, held.pause * 2)
                try:
                    trouble = await self._load(model, held.owed)
                except Unanswered as error:
                    trouble = str(error)
                if trouble:
                    _log.error("%s could not be loaded: %s", model, trouble)
        self._end_left()

    async def _load(self, model: str, config: Mapping[str, object]) -> str:
        trouble = await self.api.load(model, None if _serves_latest(config) else config)
        held = self._models[model]
        if not trouble:
            held.owed = None
        held.due = self.clock() + held.pause
        return trouble

    async def _await_unloaded(self, model: str) -> None:
        """Unloading goes on after its answer; a load that comes too early is lost."""
        end = self.clock() + UNLOAD_SECONDS
        while self.clock() < end:
            if all(one.state == "UNAVAILABLE" for one in await self.api.index() if one.name == model):
                return
            await asyncio.sleep(0.05)

    def _end_left(self) -> None:
        """Beside a dead instance Triton keeps the living ones of a model that was unloaded."""
        now = self.clock()
        for due, model, before in self._left:
            if now >= due:
                for pid in before & self.processes.stubs(model):
                    _log.info("A process of %s that was left behind is ended", model, extra={"pid": pid})
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        self._left = [left for left in self._left if now < left[0]]


def _serves_latest(config: Mapping[str, object]) -> bool:
    """Return whether a configuration's versions are those that a plain load takes."""
    policy = config.get("version_policy")
    return policy in (None, {}, {"latest": {"num_versions": 1}})
