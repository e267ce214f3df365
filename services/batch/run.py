"""Runs a batch: lines go to the gateway as requests like any other, several at once; answers are written in order.

What is held is bounded by a window of lines and of bytes, whatever the length of the input. A line is written once:
the results file and the place in the input are committed together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import orjson

from services.batch import lines as batch_lines
from services.batch.kind import BatchParameters
from services.batch.lines import Call, Line, LineError
from services.datasets.opening import dataset_store
from services.datasets.package import Package
from services.errors import Kind, Problem
from services.jobs.context import JobContext
from services.jobs.stop_signals import JobInterrupted
from services.storage import job_tokens

_WINDOW_BYTES = 64 << 20  # of lines in flight, and of answers that wait for their turn
_AHEAD = 4  # lines in the window for each that may be in flight: answers wait for their turn
_CHECKPOINT_SECONDS = 10.0
_AWAY_SECONDS = 20.0  # a gateway that is away longer is left to the runner's patience
_BUSY_SECONDS = 120.0  # a line that is told to wait for longer has that as its answer
_TRIES = 3  # of a line that the gateway, though it lives, never answers
_SHOWN = 500  # characters of the first error
_READ, _READ_BYTES = 64, 8 << 20  # lines, and their bytes, read at a time, off the event loop

_Answer = tuple[bytes, str]  # a line of the results, and what is wrong with it; empty for a success


@dataclass(slots=True)
class _Place:
    """How far the batch is: what a checkpoint holds. ``end`` is where the next line begins.

    ``first_error`` is what the first line that failed was told.
    """

    end: int = 0
    number: int = 0
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    first_error: str = ""


def run(ctx: JobContext[BatchParameters]) -> dict[str, Any]:
    """Answer every line; the result counts them, ``results.jsonl`` holds them.

    Raises ``batch-failed`` where no line succeeded; the answers are kept all the same.
    """
    saved = ctx.load_checkpoint()
    place = _Place(**orjson.loads(saved.read_bytes())) if saved else _Place()
    with ExitStack() as stack:
        source = ctx.parameters.input
        if isinstance(source, list):
            place.total = len(source)
            lines = batch_lines.of_list(source, place.end)
        elif source.startswith("dataset:"):
            package = stack.enter_context(_package(ctx, source.removeprefix("dataset:")))
            place.total = len(package.samples)
            lines = batch_lines.of_package(package, place.end)
        else:
            file = stack.enter_context(ctx.open(source))
            if not place.total:
                place.end = batch_lines.begin(file)
                place.total = batch_lines.count(file)
            lines = batch_lines.of_file(file, place.end, place.number + 1, ctx.settings.max_body_bytes)
        asyncio.run(_Batch(ctx, place).go(lines))

    counts = {"lines": place.succeeded + place.failed, "succeeded": place.succeeded, "failed": place.failed}
    if place.failed and not place.succeeded:
        raise Problem(
            Kind.INVALID,
            "batch-failed",
            "Every line of the batch failed",
            f"{place.failed:,} of {counts['lines']:,} lines failed. The first: {place.first_error}",
            remedy="results.jsonl says what each line was told.",
        )
    return counts | ({"first_error": place.first_error} if place.failed else {})


def _package(ctx: JobContext[BatchParameters], reference: str) -> AbstractContextManager[Package]:
    services = ctx.services
    store = dataset_store(ctx.settings, services.engine, services.artifacts)
    return store.open(store.get(ctx.owner, reference), ctx.settings.cache_dir / "datasets")


class _Batch:
    def __init__(self, ctx: JobContext[BatchParameters], place: _Place) -> None:
        self._ctx = ctx
        self._place = place
        self._results = ctx.stream("results.jsonl")
        self._free = asyncio.Semaphore(ctx.parameters.concurrency)
        self._saved_at = time.monotonic()
        self._since = 0
        self._waiting: deque[tuple[Line, asyncio.Task[_Answer]]] = deque()
        self._answered = 0  # bytes of answers that wait
        self._written = asyncio.Event()

    async def go(self, lines: Iterator[Line]) -> None:
        token = await asyncio.to_thread(
            job_tokens.mint, self._ctx.services.engine, self._ctx.job_id, self._ctx.lease.fence
        )
        limits = httpx.Limits(max_connections=self._ctx.parameters.concurrency)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        if self._ctx.traceparent:
            headers["traceparent"] = self._ctx.traceparent

        async with httpx.AsyncClient(
            base_url=self._ctx.settings.gateway_address,
            headers=headers,
            timeout=httpx.Timeout(self._ctx.settings.deadline + 10, connect=5),
            limits=limits,
            trust_env=False,  # the gateway is ours: no proxy stands between
        ) as client:
            waiting, held = self._waiting, 0
            try:
                while batch := await asyncio.to_thread(_some, lines):
                    for line in batch:
                        while waiting and (
                            held + len(line.data) > _WINDOW_BYTES
                            or len(waiting) >= self._ctx.parameters.concurrency * _AHEAD
                        ):
                            held -= await self._write()
                        waiting.append((line, asyncio.create_task(self._answer(client, line))))
                        held += len(line.data)
                while waiting:
                    held -= await self._write()
            except (JobInterrupted, Problem):
                await asyncio.to_thread(self._save)  # what is written need not be asked again
                raise
            finally:
                for _, task in waiting:
                    task.cancel()
                await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)

    async def _write(self) -> int:
        """Write the first answer, waiting for it if need be; returns the bytes of its line."""
        line, task = self._waiting[0]
        while not task.done():
            self._ctx.step()
            await asyncio.wait([task], timeout=1.0)

        data, error = task.result()
        self._results.write(data)
        self._waiting.popleft()
        self._answered -= len(data)
        self._written.set()
        place = self._place
        place.succeeded += not error
        place.failed += bool(error)
        if error and not place.first_error:
            place.first_error = error[:_SHOWN]

        place.end, place.number = line.end, line.number
        self._since += 1
        failed = f", {place.failed:,} failed" if place.failed else ""
        done = place.succeeded + place.failed
        self._ctx.step(done, max(place.total, done), message=f"{done:,} lines answered{failed}")
        due = time.monotonic() - self._saved_at > _CHECKPOINT_SECONDS
        if self._since >= self._ctx.parameters.checkpoint_lines or due:
            await asyncio.to_thread(self._save)

        return len(line.data)

    def _save(self) -> None:
        self._ctx.checkpoint(orjson.dumps(asdict(self._place)))
        self._saved_at, self._since = time.monotonic(), 0

    async def _answer(self, client: httpx.AsyncClient, line: Line) -> _Answer:
        parameters = self._ctx.parameters
        try:
            call = batch_lines.parse(line, parameters.endpoint, parameters.defaults)
            async with self._free:
                # The first in line came here first, so it never waits for those behind it.
                while self._answered > _WINDOW_BYTES and self._waiting[0][0] is not line:
                    self._written.clear()
                    await self._written.wait()
                response = await self._send(client, call, line.number)
            answer = _success(call.custom_id, response), _refusal(line.number, response)
        except LineError as error:
            answer = _failure(error), str(error)

        self._answered += len(answer[0])
        return answer

    async def _send(self, client: httpx.AsyncClient, call: Call, number: int) -> httpx.Response:
        request_id = f"{self._ctx.job_id}-{number}"
        begin, tries, pause = time.monotonic(), 0, 0.25
        while True:
            try:
                response = await client.post(call.url, content=call.body, headers={"x-request-id": request_id})
            except httpx.TransportError as error:
                if await _lives(client):
                    tries += 1
                    if tries >= _TRIES:
                        message = f"No answer after {tries} tries: {type(error).__name__}."
                        raise LineError("no-answer", message, call.custom_id) from None
                elif time.monotonic() - begin > _AWAY_SECONDS:
                    raise _away(self._ctx.settings.gateway_address, error) from error
                await asyncio.sleep(pause)
            else:
                if response.status_code == 401:
                    await asyncio.to_thread(self._ctx.confirm)  # a token is refused when its lease is gone
                    raise _revoked()
                if response.status_code not in (429, 503) or time.monotonic() - begin > _BUSY_SECONDS:
                    return response
                await asyncio.sleep(max(pause, _retry_after(response)))

            pause = min(pause * 2, 5.0)


def _some(lines: Iterator[Line]) -> list[Line]:
    found, size = [], 0
    for line in lines:
        found.append(line)
        size += len(line.data)
        if len(found) >= _READ or size >= _READ_BYTES:
            break
    return found


async def _lives(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz", timeout=2)).is_success
    except httpx.TransportError:
        return False


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(30.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 1.0


def _success(custom_id: str | None, response: httpx.Response) -> bytes:
    body = response.content
    if not response.headers.get("content-type", "").partition(";")[0].endswith("json"):
        body = orjson.dumps(response.text)
    elif b"\n" in body:
        body = orjson.dumps(orjson.loads(body))
    # The answer is a JSON document already: it is put in as it is, not read and written again.
    head = orjson.dumps(
        {"status_code": response.status_code, "request_id": response.headers.get("x-request-id")}
    ).removesuffix(b"}")
    return b'{"custom_id":%b,"response":%b,"body":%b},"error":null}\n' % (orjson.dumps(custom_id), head, body)


def _refusal(number: int, response: httpx.Response) -> str:
    """Return what the gateway says is wrong; empty for a success."""
    if response.status_code < 400:
        return ""
    try:
        return f"Line {number} was answered {response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"Line {number} was answered {response.status_code}."


def _failure(error: LineError) -> bytes:
    told = {"code": error.code, "message": str(error)}
    return orjson.dumps(
        {"custom_id": error.custom_id, "response": None, "error": told}, option=orjson.OPT_APPEND_NEWLINE
    )


def _away(address: str, error: httpx.TransportError) -> Problem:
    return Problem(
        Kind.UNAVAILABLE,
        "gateway-unavailable",
        "Gateway does not answer",
        f"{address}: {type(error).__name__}.",
        remedy="Workers on other machines need SIGHTLINE_GATEWAY_URL.",
        retry_after=10,
    )


def _revoked() -> Problem:
    return Problem(
        Kind.FORBIDDEN,
        "key-revoked",
        "Key of the job was revoked",
        "The key that submitted the job is no longer valid, so the job may not call anything for it.",
    )
