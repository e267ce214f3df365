"""From an uploaded archive to a package: unpack, read the layout, decode every image once, keep what is sound."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from services.datasets import formats, package
from services.datasets.archive import ArchiveLimits, unpack
from services.datasets.samples import Flaw, Parsed, Task, readable_classes
from services.errors import Kind, Problem
from services.media.image import read_picture
from services.media.intake import Limits

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found. ``flaws`` lists what was left out, the first thousand."""

    name: str
    task: Task
    format: str
    classes: list[str]
    counts: package.Counts
    flaws: list[Flaw]
    flaw_count: int


def import_archive(
    archive: Path,
    name: str,
    into: Path,
    images: Limits,
    limits: ArchiveLimits,
    *,
    strict: bool = False,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Write the package of ``archive`` to ``into``; on any refusal nothing is left behind.

    With ``strict`` the first flaw refuses the whole; otherwise what a flaw touches is left out and listed.
    Raises :class:`Problem` ``archive-*``, ``dataset-*``.
    """
    with tempfile.TemporaryDirectory(prefix="import-", dir=into.parent) as folder:
        root = Path(folder)
        names = _unpack_nested(unpack(archive, root, limits), root, limits)
        parsed = formats.read(root, names)
        parsed.classes = readable_classes(parsed.classes)
        checked: list[package.Checked] = []
        for done, item in enumerate(_check(root, parsed, images)):
            progress(done + 1, len(parsed.samples))
            if item is not None:
                checked.append(item)
        _refuse_if_unusable(parsed, checked, strict)
        staged = root / "package.zip"
        package.write(staged, name, parsed.task, parsed.classes, parsed.format, checked)
        shutil.move(staged, into)
    counts = package.count((item.sample for item in checked), parsed.classes)
    return Imported(name, parsed.task, parsed.format, parsed.classes, counts, parsed.flaws.first, parsed.flaws.count)


def _unpack_nested(names: list[str], root: Path, limits: ArchiveLimits) -> list[str]:
    """ELEVATER sets carry their images in zips of their own: unpack one level into a folder of the zip's name.

    The limits hold for all of it together.
    """
    found = [name for name in names if not name.lower().endswith(".zip")]
    left = limits.max_total_bytes - sum((root / name).stat().st_size for name in found)
    for name in (name for name in names if name.lower().endswith(".zip")):
        inner = root.parent / f"{root.name}.inner"
        (root / name).rename(inner)
        target = root / name
        target.mkdir()
        rest = replace(limits, max_total_bytes=left, max_entries=limits.max_entries - len(found))
        try:
            entries = unpack(inner, target, rest)
        finally:
            inner.unlink()
        left -= sum((target / entry).stat().st_size for entry in entries)
        found += [f"{name}/{entry}" for entry in entries]
    return found


def _check(root: Path, parsed: Parsed, images: Limits) -> Iterator[package.Checked | None]:
    for sample in parsed.samples:
        try:
            images.check_bytes((root / sample.path).stat().st_size)
            picture = read_picture((root / sample.path).read_bytes(), images)
        except Problem as problem:
            parsed.flaws.append(Flaw(sample.path, None, problem.detail or problem.title))
            yield None
            continue
        outside = [
            box for box in sample.boxes if box.xyxy[2] > picture.width + 0.5 or box.xyxy[3] > picture.height + 0.5
        ]
        if outside:
            message = f"box {outside[0].xyxy} lies outside of the {picture.width} x {picture.height} image"
            parsed.flaws.append(Flaw(sample.path, None, message))
            yield None
            continue
        yield package.Checked(sample, root / sample.path, picture.width, picture.height)


def _refuse_if_unusable(parsed: Parsed, checked: list[package.Checked], strict: bool) -> None:
    if checked and not (strict and parsed.flaws):
        return
    first = parsed.flaws.first[0] if parsed.flaws else Flaw("", None, "the layout names no image")
    place = f"{first.file}:{first.line}" if first.line else first.file
    raise Problem(
        Kind.INVALID,
        "dataset-flawed" if checked else "dataset-empty",
        "The data set has flaws" if checked else "The data set has no usable image",
        f"{len(parsed.flaws)} flaws; the first: {place}: {first.message}.",
        remedy="Correct the files that 'problems' lists and send the set again.",
        extra={
            "problems": [
                {"file": flaw.file, "line": flaw.line, "message": flaw.message} for flaw in parsed.flaws.first[:100]
            ]
        },
    )
