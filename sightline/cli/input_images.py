"""Images as they are named on the command line: files, folders, addresses, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from sightline.cli.skipped import Skipped, why_skipped

_BATCH_IMAGES, _BATCH_BYTES = 16, 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image as the user named it; ``data`` is ``None`` for an address that the platform fetches."""

    name: str
    data: bytes | None

    @property
    def value(self) -> str | bytes:
        return self.name if self.data is None else self.data


def batches(names: Sequence[str], skipped: Skipped) -> Iterator[list[InputImage]]:
    """Every image that ``names`` mean, a request's worth at a time; no more than that is in memory.

    What is passed over in folders is put into ``skipped``.
    """
    batch: list[InputImage] = []
    weight = 0
    for image in _read(names, skipped):
        cost = len(image.data or b"")
        if batch and (len(batch) == _BATCH_IMAGES or weight + cost > _BATCH_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(image)
        weight += cost

    if batch:
        yield batch


def _read(names: Sequence[str], skipped: Skipped) -> Iterator[InputImage]:
    for name in names:
        if name == "-":
            yield InputImage("-", sys.stdin.buffer.read())
        elif name.startswith(("https://", "http://", "artifact:")):
            yield InputImage(name, None)
        elif (folder := Path(name)).is_dir():
            for path in _pictures(folder, skipped):
                yield InputImage(str(path), path.read_bytes())
        else:
            yield InputImage(name, Path(name).read_bytes())


def _pictures(folder: Path, skipped: Skipped) -> list[Path]:
    """The pictures in a folder and those below it; raises a usage error where there are none."""
    found = []
    for path in sorted(folder.rglob("*")):
        reason = why_skipped(path)
        if reason is not None:
            skipped.add(path, reason)
        elif not path.is_dir():
            found.append(path)

    if not found:
        raise typer.BadParameter("; ".join([f"no pictures in {folder}", *skipped.lines()]))
    return found
