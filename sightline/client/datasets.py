"""Data sets of a key: ``client.datasets``."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sightline.client.errors import SightlineError
from sightline.client.halves import N, call, stream
from sightline.client.resource import Resource, json_of, nothing, read_answer, segment

_TARS = (".tar", ".tgz", ".gz", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out of an upload for one ``reason``: how many, and the first three."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Files, or annotations, of an upload: ``seen`` is ``read`` and all that was left out together."""

    seen: int
    read: int
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """What became of an upload: its ``layout`` and ``why`` it was taken, every file and every annotation.

    ``runner_up`` is another layout that came close; ``lost`` names classes and splits of which nothing is left.
    """

    layout: str
    why: str
    runner_up: str | None
    files: Tally
    annotations: Tally
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """An imported data set. ``counts`` by split; ``problems`` say what of the upload was left out, and why.

    ``account`` says it of all files and annotations; ``None`` for sets of earlier versions.
    """

    id: str
    name: str
    task: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    class_counts: Mapping[str, int]
    problems: tuple[str, ...]
    problem_count: int
    account: Account | None = None


class Datasets(Resource[N]):
    """Labelled image sets on the platform. Every method raises :class:`APIError` or :class:`Unreachable`.

    >>> with Client() as client:
    ...     made = client.datasets.upload("squares", "squares")
    ...     client.datasets.delete(made.id)
    >>> made.classes, made.counts["train"]
    (('blue', 'red'), 4)
    """

    @call
    async def upload(
        self,
        content: Path | str,
        name: str,
        *,
        strict: bool = False,
        layout: str | None = None,
        allow_losses: bool = False,
    ) -> Dataset:
        """Import a zip, a tar or a folder as the set ``name``.

        ``strict`` refuses the whole of it for one flaw. Without it flawed files are left out, unless a class, a split
        or more than a tenth would be lost, which only ``allow_losses`` permits. ``layout`` (``folders``, ``coco``,
        ``yolo``, ``voc``, ``table``, ``iris``) says how it is laid out where that is not to be found out.
        """
        params = {"name": name, "strict": _flag(strict), "allow_losses": _flag(allow_losses)}
        if layout is not None:
            params["layout"] = layout

        with _archive(Path(content)) as file:
            response = await self._send(
                "POST",
                "/v1/datasets",
                content=file,
                headers=_headers(file),
                resend=False,  # it may have arrived: sending it twice would be refused
                params=params,
                timeout=None,
            )

        return read_answer(response, _one)

    @call
    async def get(self, name: str) -> Dataset:
        """A set by its id or name."""
        return await self._ask("GET", f"/v1/datasets/{segment(name)}", _one)

    @stream
    def list(self) -> AsyncIterator[Dataset]:
        """Sets, newest first; further pages are fetched as they are reached."""
        return self._pages("/v1/datasets", _dataset)

    @call
    async def delete(self, name: str) -> None:
        """Remove a set by its id or name. Models that were trained on it stay."""
        await self._ask("DELETE", f"/v1/datasets/{segment(name)}", nothing)


def _one(response: httpx.Response) -> Dataset:
    return _dataset(json_of(response))


def _dataset(body: Mapping[str, Any]) -> Dataset:
    return Dataset(
        body["id"],
        body["name"],
        body["task"],
        tuple(body["classes"]),
        body["counts"],
        body["class_counts"],
        tuple(_told(flaw) for flaw in body["problems"]),
        body["problem_count"],
        _account(body["account"]) if body.get("account") else None,
    )


def _account(body: Mapping[str, Any]) -> Account:
    layout = body["layout"]
    return Account(
        layout=layout["name"],
        why=layout["why"],
        runner_up=layout["runner_up"],
        files=_tally(body["files"]),
        annotations=_tally(body["annotations"]),
        lost=tuple(body["lost"]),
    )


def _tally(body: Mapping[str, Any]) -> Tally:
    left_out = [LeftOut(one["reason"], one["count"], tuple(one["examples"])) for one in body["left_out"]]
    return Tally(body["seen"], body["read"], tuple(left_out))


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _told(flaw: Mapping[str, Any]) -> str:
    line = "" if flaw["line"] is None else f", line {flaw['line']}"
    return f"{flaw['file']}{line}: {flaw['message']}"


def _headers(file: Path) -> dict[str, str]:
    kind = "application/x-tar" if file.suffix.lower() in _TARS else "application/zip"
    return {"content-type": kind, "content-length": str(file.stat().st_size)}


@contextmanager
def _archive(content: Path) -> Iterator[Path]:
    """The file itself, or a folder's files as a zip that goes away afterwards."""
    if content.is_file():
        yield content
        return

    if not content.is_dir():
        raise SightlineError(f"{content} is neither a file nor a folder; name a zip, a tar or a folder of pictures")

    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        packed = Path(folder) / "set.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED, strict_timestamps=False) as bundle:
            for root, folders, files in os.walk(content):
                folders.sort()
                for name in sorted(files):
                    bundle.write(Path(root) / name, str((Path(root) / name).relative_to(content)))
        yield packed
