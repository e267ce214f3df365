"""Does one job: claims it, runs its handler, and sees to it that it ends exactly once or goes back to the queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from services import tracing
from services.errors import Kind, Problem
from services.jobs import leases
from services.jobs.completion import document
from services.jobs.context import JobContext
from services.jobs.heartbeat import Heartbeat
from services.jobs.kind import JobKind
from services.jobs.leases import Lease
from services.jobs.owner import identity
from services.jobs.progress import Reporter, as_json
from services.jobs.services import JobServices
from services.jobs.stop_signals import JobCancelled, JobInterrupted, LeaseLost
from services.storage.database import is_transient, persistently
from services.storage.drafts import Draft
from services.storage.problems import FULL

log = logging.getLogger(__name__)

Outcome = Literal["succeeded", "failed", "cancelled", "handed-back", "lost", "not-waiting"]


def run_job(
    services: JobServices,
    kinds: Mapping[str, JobKind[Any]],
    job_id: str,
    *,
    worker: str | None = None,
    shutdown: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do the job, if it waits, with the work that its kind loads. Returns what became of it here.

    ``shutdown`` is asked a few times a second; once it says true the job stops at its next step and is handed back.
    """
    me = worker or identity()
    lease = persistently(lambda: leases.claim(services.engine, job_id, me), seconds=60)
    if lease is None:
        return "not-waiting"

    log.info("job started", extra={"job": job_id, "kind": lease.job.kind, "attempt": lease.job.attempt})
    reporter = Reporter(lease.job.progress)
    told: tracing.Attributes = {
        "sightline.job.id": job_id,
        "sightline.job.kind": lease.job.kind,
        "sightline.job.attempt": lease.job.attempt,
    }
    with (
        tracing.job(services.tracing, lease.job.traceparent, f"job {lease.job.kind}", told) as trace,
        Heartbeat(services.settings, services.engine, services.artifacts, lease, reporter, shutdown=shutdown),
    ):
        outcome = trace.outcome = _Run(services, kinds, lease, reporter, trace.traceparent).go()

    log.info("job %s", outcome, extra={"job": job_id, "kind": lease.job.kind, "attempt": lease.job.attempt})
    return outcome


class _Run:
    """One attempt, with as many tries as passing trouble costs."""

    def __init__(
        self,
        services: JobServices,
        kinds: Mapping[str, JobKind[Any]],
        lease: Lease,
        reporter: Reporter,
        traceparent: str,
    ) -> None:
        self._services = services
        self._kinds = kinds
        self._lease = lease
        self._reporter = reporter
        self._traceparent = traceparent
        self._patience = services.settings.job_patience

    def go(self) -> Outcome:
        try:
            kind, parameters = self._prepared()
            handler = kind.load()
        except Problem as problem:
            return self._end("failed", error=problem)
        except Exception as error:
            return self._end("failed", error=self._crash(error))

        deadline, pause = time.monotonic() + self._patience, 1.0
        while True:
            context = JobContext(
                self._services, self._lease, parameters, self._reporter, self._folder(), self._traceparent
            )
            try:
                return self._try(context, lambda ctx: handler(ctx))
            except _Passing as trouble:
                if context.checkpoints:  # it came further than the last time
                    deadline, pause = time.monotonic() + self._patience, 1.0
                if time.monotonic() + pause > deadline:
                    return self._end("failed", error=trouble.problem)
                self._reporter.log(f"{trouble.problem.title}; trying again in {pause:.0f} s.", "warning")
                if (stopped := self._wait(pause)) is not None:
                    return stopped
                pause = min(pause * 2, 30.0)
            finally:
                context.close()

    def _try(self, context: JobContext[Any], work: Callable[[JobContext[Any]], Mapping[str, Any]]) -> Outcome:
        try:
            context.scratch.mkdir(parents=True)
            return self._end("succeeded", context, result=as_json(dict(work(context))))
        except JobCancelled:
            return self._end("cancelled", context)
        except JobInterrupted:
            return self._hand_back()
        except LeaseLost:
            return "lost"
        except Problem as problem:
            if problem.kind is Kind.UNAVAILABLE:
                raise _Passing(problem) from problem
            return self._end("failed", context, error=problem)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise _Passing(_database(error)) from error
            return self._end("failed", context, error=self._crash(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise _Passing(_disk(error)) from error
            return self._end("failed", context, error=self._crash(error))

    def _prepared(self) -> tuple[JobKind[Any], Any]:
        job = self._lease.job
        kind = self._kinds.get(job.kind)
        if kind is None:
            raise Problem(
                Kind.INTERNAL,
                "job-kind-unknown",
                "Worker does not know this kind of job",
                f"No kind is called {job.kind!r} here.",
                remedy="Run the same version, with the same job_modules, everywhere.",
            )

        try:
            return kind, kind.parameters.model_validate(job.parameters)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise Problem(
                Kind.INVALID,
                "parameters-invalid",
                "Parameters are not what this version expects",
                first["msg"],
                pointer=f"/parameters/{where}",
            ) from error

    def _folder(self) -> Any:
        return self._services.settings.scratch_dir / "jobs" / f"{self._lease.job.id}.{self._lease.fence}"

    def _wait(self, seconds: float) -> Outcome | None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self._reporter.raise_if_stopped()
            except JobCancelled:
                return self._end("cancelled")
            except JobInterrupted:
                return self._hand_back()
            except LeaseLost:
                return "lost"
            time.sleep(0.2)
        return None

    def _end(
        self,
        state: Literal["succeeded", "failed", "cancelled"],
        context: JobContext[Any] | None = None,
        *,
        result: Mapping[str, Any] | None = None,
        error: Problem | None = None,
    ) -> Outcome:
        outputs: dict[str, tuple[str, Draft]] = {}
        try:
            if context is not None:
                try:
                    outputs = context.assembled()
                except Problem:
                    if state == "succeeded":
                        raise  # waited out like any trouble; a job that failed anyway ends without them
            with self._reporter.writing:  # the heartbeat may be about to write what it took before
                progress, events = self._reporter.take()
            told = [*events, ("progress", progress)] if progress is not None else events

            def finish(with_outputs: dict[str, tuple[str, Draft]]) -> None:
                leases.finish(
                    self._services.artifacts,
                    self._services.engine,
                    self._lease,
                    state,
                    result=result,
                    error=document(error) if error else None,
                    outputs=with_outputs,
                    progress=progress,
                    events=told,
                )

            try:
                persistently(lambda: finish(outputs), seconds=self._patience)
            except Problem:
                if state == "succeeded":
                    self._reporter.give_back(progress, events)
                    raise
                # The quota or the disk has no room for what there is: it ends all the same, without.
                persistently(lambda: finish({}), seconds=self._patience)
        except LeaseLost:
            return "lost"
        finally:
            for _, draft in outputs.values():
                draft.discard()
        return state

    def _hand_back(self) -> Outcome:
        with self._reporter.writing:
            _, events = self._reporter.take()
        given = persistently(lambda: leases.hand_back(self._services.engine, self._lease, events), seconds=10)
        return "handed-back" if given else "lost"

    def _crash(self, error: Exception) -> Problem:
        log.exception("job crashed", extra={"job": self._lease.job.id, "kind": self._lease.job.kind}, exc_info=error)
        return Problem(
            Kind.INTERNAL,
            "job-crashed",
            "Job stopped with an error of its own",
            f"{type(error).__name__}: {error}"[:1_000],
            remedy=f"The worker's log has more under the job id {self._lease.job.id}.",
        )


class _Passing(Exception):
    """Trouble that may go away by waiting."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def _disk(error: OSError) -> Problem:
    return Problem(Kind.UNAVAILABLE, "storage-full", "Storage is full", str(error), retry_after=5)


def _database(error: SQLAlchemyError) -> Problem:
    return Problem(
        Kind.UNAVAILABLE, "database-unavailable", "Database is not available", str(error)[:300], retry_after=5
    )
