"""Kinds of jobs that tests run: small, exact in what they make, and able to go wrong in every way.

Workers load this module through ``SIGHTLINE_JOB_MODULES=tests.support.job_kinds``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from services.errors import Kind, Problem
from services.jobs.context import JobContext
from services.jobs.kind import JobKind
from services.jobs.queues import Queue


class CountParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    up_to: int = Field(10, ge=0)
    pause: float = 0.0
    checkpoint_every: int = 3
    die_at: int | None = None
    """Kill the worker child at this number, as long as ``deaths`` are left (a file counts them)."""
    deaths: int = 1
    how: Literal["kill", "stop", "segfault"] = "kill"
    marks: str | None = None
    """A file that gets a line for every number counted, by every attempt."""


def count(ctx: JobContext[CountParameters]) -> Mapping[str, Any]:
    """Counts, writes each number as a line, sums: any number lost or done twice shows in the output or the sum."""
    p = ctx.parameters
    saved = ctx.load_checkpoint()
    n, total = orjson.loads(saved.read_bytes()) if saved else (0, 0)
    lines = ctx.stream("numbers.txt", "text/plain")
    while n < p.up_to:
        ctx.step(n, p.up_to, metrics={"total": total} if n % 5 == 0 else None)
        if p.marks:
            with Path(p.marks).open("a") as marks:
                marks.write(f"{ctx.job_id} {ctx.attempt} {n} {os.getpid()}\n")
        if p.die_at == n:
            _die(ctx, p)
        lines.write(b"%d\n" % n)
        total += n
        n += 1
        time.sleep(p.pause)
        if p.checkpoint_every and n % p.checkpoint_every == 0:
            ctx.checkpoint(orjson.dumps([n, total]))
    return {"total": total, "counted": n}


def _die(ctx: JobContext[CountParameters], p: CountParameters) -> None:
    folder = ctx.settings.data_dir / "deaths"
    folder.mkdir(parents=True, exist_ok=True)
    died = len(list(folder.glob(f"{ctx.job_id}.*")))
    if died >= p.deaths:
        return
    (folder / f"{ctx.job_id}.{died}").touch()
    if p.how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGSTOP if p.how == "stop" else signal.SIGKILL)


class DieFurtherParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    times: int = 4


def die_further(ctx: JobContext[DieFurtherParameters]) -> Mapping[str, Any]:
    """Kills its worker after a checkpoint, so many times, each time a step further."""
    saved = ctx.load_checkpoint()
    n = int(saved.read_text()) if saved else 0
    if n < ctx.parameters.times:
        ctx.checkpoint(b"%d" % (n + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return {"died": n}


class FailParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    how: Literal["problem", "crash", "passing", "not-json", "nan"] = "crash"
    times: int = 1


def fail(ctx: JobContext[FailParameters]) -> Mapping[str, Any]:
    """Fails as it is told."""
    match ctx.parameters.how:
        case "problem":
            raise Problem(Kind.INVALID, "labels-missing", "Labels are missing", "There are none.", pointer="/labels")
        case "crash":
            raise RuntimeError("this handler has a bug")
        case "not-json":
            return {"object": object()}
        case "nan":
            ctx.step(1, metrics={"loss": float("nan"), "accuracy": 0.5})
            return {"loss": float("nan")}
        case "passing":
            marks = ctx.settings.data_dir / f"passing-{ctx.job_id}"
            marks.parent.mkdir(parents=True, exist_ok=True)
            with marks.open("a") as file:
                file.write("x")
            if marks.stat().st_size <= ctx.parameters.times:
                raise Problem(Kind.UNAVAILABLE, "storage-full", "Storage is full", retry_after=1)
            return {"tries": marks.stat().st_size}


class WriteParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bytes: int = 1 << 20
    pieces: int = 4


def write(ctx: JobContext[WriteParameters]) -> Mapping[str, Any]:
    """Writes an output of so many bytes, in pieces."""
    size = ctx.parameters.bytes // ctx.parameters.pieces
    with ctx.artifact("data.bin") as out:
        for piece in range(ctx.parameters.pieces):
            ctx.step(piece, ctx.parameters.pieces)
            out.write(bytes([piece % 251]) * size)
    return {"bytes": size * ctx.parameters.pieces}


class SleepParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = 60.0
    deaf: bool = False


def sleep(ctx: JobContext[SleepParameters]) -> Mapping[str, Any]:
    """Sleeps; ``deaf`` without ever looking whether it is to stop."""
    end = time.monotonic() + ctx.parameters.seconds
    while time.monotonic() < end:
        if not ctx.parameters.deaf:
            ctx.step()
        time.sleep(0.02)
    return {"slept": ctx.parameters.seconds}


def _kind(name: str, parameters: type[Any], handler: Any, queue: Queue = "default") -> JobKind[Any]:
    return JobKind(name, queue, parameters, lambda: handler)


KINDS = (
    _kind("count", CountParameters, count),
    _kind("count-batch", CountParameters, count, "batch"),
    _kind("die-further", DieFurtherParameters, die_further),
    _kind("fail", FailParameters, fail),
    _kind("write", WriteParameters, write),
    _kind("sleep", SleepParameters, sleep),
)
