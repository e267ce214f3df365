"""Why a running job must stop. Not ordinary exceptions: a handler's ``except Exception`` must not hold them up."""

from __future__ import annotations

from typing import Self


class JobStopped(BaseException):
    """Raised by the context at the next step after something asked the job to stop."""

    def again(self) -> Self:
        """A fresh one to raise: an exception that is raised twice drags its first traceback along."""
        return type(self)(*self.args)


class JobCancelled(JobStopped):
    """Its owner cancelled it."""


class JobInterrupted(JobStopped):
    """The worker is shutting down: the job goes back to the queue and goes on elsewhere from its checkpoint."""


class LeaseLost(JobStopped):
    """Another worker has the job, or it was ended; what this one does counts no more."""
