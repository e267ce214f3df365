"""What the function that does a job gets: its parameters, and every way to tell the world how it goes.

A kind of job is a function ``run(ctx: JobContext[Parameters]) -> dict`` that returns the job's result. The rules:

- It may be started again at any time, on another machine, after any of its lines. So it begins with
  ``ctx.load_checkpoint()`` and goes on from there; work since the last checkpoint is done again.
- It calls ``ctx.step(n, total)`` between pieces of work, at least every few seconds: that reports progress and raises
  :class:`~services.jobs.stop_signals.JobStopped` when the job was cancelled, the worker shuts down, or the job was
  taken over. Never catch it without raising it again; clean up in ``finally``. Work in one long call that cannot be
  interrupted may look at ``ctx.cancelled`` from a callback instead.
- ``ctx.checkpoint(state)`` commits how far it is, together with everything written to ``ctx.stream(...)`` so far.
  A checkpoint also proves that the job is no poison pill. Every half minute is a good pace.
- Outputs: ``with ctx.artifact("model.json") as out: out.write(...)`` is there as soon as the block ends;
  ``ctx.stream("results.jsonl")`` grows across checkpoints and attempts and is published when the job ends.
- Effects outside (a model version in the repository) must be safe to repeat: name them by ``ctx.job_id``, and call
  ``ctx.confirm()`` right before, which asks the database whether this worker still holds the job.
- Trouble that will pass (``Problem`` of kind ``unavailable``: a full disk, a gateway that restarts) is waited out by
  the runner, which calls the function again. Any other ``Problem`` fails the job with that problem. Any other
  exception fails it as a bug.

::

    def run(ctx: JobContext[CountParameters]) -> dict[str, object]:
        saved = ctx.load_checkpoint()
        n = int(saved.read_text()) if saved else 0
        lines = ctx.stream("numbers.txt")
        while n < ctx.parameters.up_to:
            lines.write(b"%d\\n" % n)
            n += 1
            ctx.step(n, ctx.parameters.up_to, message="counting", metrics={"square": n * n})
            if n % 100 == 0:
                ctx.checkpoint(b"%d" % n)
        return {"counted": n}
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Generic, Literal, TypeVar, cast

from pydantic import BaseModel

from services.errors import Kind, Problem
from services.jobs import leases
from services.jobs.leases import Lease
from services.jobs.progress import Reporter
from services.jobs.services import JobServices
from services.jobs.stop_signals import LeaseLost
from services.jobs.streams import OutputStream
from services.settings import Settings
from services.storage.database import persistently
from services.storage.drafts import CHUNK, Draft

P = TypeVar("P", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
T = TypeVar("T")

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class JobContext(Generic[P]):
    """One attempt at a job. Methods may be called from any thread; those that write block for a transaction."""

    def __init__(
        self,
        services: JobServices,
        lease: Lease,
        parameters: P,
        reporter: Reporter,
        folder: Path,
        traceparent: str = "",
    ) -> None:
        self.parameters = parameters
        self.services = services
        self.scratch = folder
        """An empty folder of this attempt, removed after it."""
        self.lease = lease
        self._commits = [0]  # a list: contexts with other parameters count together
        self.traceparent = traceparent
        """For requests of the job: the trace they belong to, if there is one."""
        self._reporter = reporter
        self._streams: dict[str, OutputStream] = {}

    def with_parameters(self, parameters: Q) -> JobContext[Q]:
        """The same attempt for a function of another kind: what it writes and checkpoints is this job's."""
        other: JobContext[Q] = copy.copy(cast("JobContext[Q]", self))
        other.parameters = parameters
        return other

    @property
    def job_id(self) -> str:
        return self.lease.job.id

    @property
    def checkpoints(self) -> int:
        """Made by this attempt so far."""
        return self._commits[0]

    @property
    def owner(self) -> str:
        """The key the job belongs to: what it reads and makes is this key's."""
        return self.lease.job.owner

    @property
    def attempt(self) -> int:
        """1 the first time; not a count of failures, as workers also hand jobs back."""
        return self.lease.job.attempt

    @property
    def settings(self) -> Settings:
        return self.services.settings

    # Telling

    def step(
        self,
        n: int | None = None,
        total: int | None = None,
        message: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Report ``n`` of ``total`` and stop here if the job is to stop. Cheap: writing is left to another thread.

        ``metrics`` are kept as an event each time; progress between two writes is only the latest.
        """
        self._reporter.step(n, total, message, metrics)
        self._reporter.raise_if_stopped()

    def log(self, message: str, level: Literal["info", "warning", "error"] = "info") -> None:
        """A line for the owner to read in the job's events."""
        self._reporter.log(message, level)

    @property
    def cancelled(self) -> bool:
        """Whether the job is to stop, for whatever reason; ``step`` raises which."""
        return self._reporter.stopped

    def confirm(self) -> None:
        """Ask the database whether this worker still holds the job. Raises :class:`LeaseLost`."""
        self._reporter.raise_if_stopped()
        if not self._persistently(lambda: leases.held(self.services.engine, self.lease)):
            raise LeaseLost

    # Keeping

    def checkpoint(self, state: bytes | Path) -> None:
        """Commit ``state`` (bytes, or a file's content) and all streams up to here, together."""
        grown = {stream.segment: stream for stream in self._streams.values() if stream.pending.size}
        with self.services.artifacts.draft() as draft:
            _fill(draft, state)
            segments = {name: stream.pending for name, stream in grown.items()}
            self._persistently(
                lambda: leases.checkpoint(
                    self.services.engine,
                    self.services.artifacts,
                    self.lease,
                    draft,
                    segments=segments,
                    progress=self._reporter.progress(),
                )
            )

        self._commits[0] += 1
        for stream in grown.values():
            stream.commit()

    def load_checkpoint(self) -> Path | None:
        """The last committed state as a file, ``None`` when there is none yet."""
        kept = self.services.artifacts.of_job(self.job_id, "checkpoint")
        return self.services.artifacts.copy_to(kept[0], self.scratch / "checkpoint") if kept else None

    @contextmanager
    def artifact(self, name: str, media_type: str = "application/octet-stream") -> Iterator[Draft]:
        """An output to write; published when the block ends without an exception, in place of one of that name."""
        _checked(name)
        with self.services.artifacts.draft() as draft:
            yield draft
            store, lease = self.services.artifacts, self.lease
            self._persistently(lambda: leases.attach(store, lease, draft, name=name, media_type=media_type))

    def add_file(self, path: Path, name: str, media_type: str = "application/octet-stream") -> None:
        """Publish a file as an output."""
        with self.artifact(name, media_type) as draft:
            _fill(draft, path)

    def stream(self, name: str, media_type: str = "application/x-ndjson") -> OutputStream:
        """A growing output: what was written before the last checkpoint is there already, whoever wrote it."""
        if name not in self._streams:
            self._streams[name] = OutputStream(self.services.artifacts, self.job_id, _checked(name), media_type)
        return self._streams[name]

    # Reading

    def open(self, reference: str) -> BinaryIO:
        """The content of ``artifact:{id}``, one of the owner's. Raises ``artifact-not-found``."""
        artifact = self.services.artifacts.get(self.owner, reference.removeprefix("artifact:"))
        return self.services.artifacts.open(artifact)

    # For the runner

    def assembled(self) -> dict[str, tuple[str, Draft]]:
        """The whole of every stream, for publishing with the end of the job; the caller discards the drafts."""
        whole: dict[str, tuple[str, Draft]] = {}
        try:
            for stream in self._streams.values():
                whole[stream.name] = stream.media_type, stream.assemble()
        except BaseException:
            for _, draft in whole.values():
                draft.discard()
            raise
        return whole

    def close(self) -> None:
        """Remove what is only this attempt's."""
        for stream in self._streams.values():
            stream.discard()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _persistently(self, work: Callable[[], T]) -> T:
        return persistently(work, seconds=self.settings.job_patience, give_up=lambda: self._reporter.stopped)


def _fill(draft: Draft, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        draft.write(content)
        return
    with content.open("rb") as source:
        while chunk := source.read(CHUNK):
            draft.write(chunk)


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise Problem(
            Kind.INVALID,
            "artifact-name",
            "Artifact name is not allowed",
            f"{name[:200]!r} is not 1 to 128 letters, digits, dots, dashes and underscores.",
        )
    return name
