"""Where a gateway process stands between its start and its end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lifecycle:
    """Where the process stands.

    ``ready`` turns true after start-up, ``lame_duck`` when the platform around it begins to stop, ``draining`` when the
    process itself is told to.
    """

    ready: bool = False
    lame_duck: bool = False
    draining: bool = False

    @property
    def takes_work(self) -> bool:
        """Whether load balancers are to send requests."""
        return self.ready and not self.lame_duck and not self.draining
