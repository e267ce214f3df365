"""Who sent a request, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.ownership import Viewer

ApiScope = Literal["infer", "jobs", "metrics", "admin"]
"""What a key may do. ``admin`` includes the others; ``metrics`` belongs to the token of ``settings.metrics_token``."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the id of its key, ``anonymous`` where keys are not asked for. ``rate`` is the key's own.

    ``background``: a job calls for its owner, and may wait behind people. ``sees_all``: the models of every key are
    there for it.
    """

    key_id: str
    scopes: frozenset[ApiScope]
    rate: float | None = None
    background: bool = False
    sees_all: bool = False

    def may(self, scope: ApiScope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    @property
    def viewer(self) -> Viewer:
        """As who it looks at models."""
        return Viewer(self.key_id, self.sees_all)
