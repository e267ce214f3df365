"""From an uploaded archive to a package: unpack, find the layout, decode every image once, keep what is sound."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.datasets import formats, package
from services.datasets.account import Account, refuse_losses, take_account
from services.datasets.archive import ArchiveLimits, unpack
from services.datasets.formats import Choice
from services.datasets.frames import place_boxes
from services.datasets.listing import Listing
from services.datasets.samples import Flaw, Parsed, Task, readable_classes
from services.errors import Kind, Problem
from services.media.formats import read_container
from services.media.image import decode_picture
from services.media.intake import Limits

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found. ``flaws`` lists what was left out, the first thousand; ``account`` all of it, in groups."""

    name: str
    task: Task
    format: str
    classes: list[str]
    counts: package.Counts
    flaws: list[Flaw]
    flaw_count: int
    layout: Choice | None = None
    account: Account | None = None


def import_archive(
    archive: Path,
    name: str,
    into: Path,
    images: Limits,
    limits: ArchiveLimits,
    *,
    strict: bool = False,
    layout: str | None = None,
    allow_losses: bool = False,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Write the package of ``archive`` to ``into``; on any refusal nothing is left behind.

    With ``strict`` the first flaw refuses the whole; otherwise what a flaw touches is left out and listed, unless a
    class, a split or more than a tenth is lost and ``allow_losses`` is not set. ``layout`` names how the files are laid
    out where it is not to be found out. Raises :class:`Problem` ``archive-*``, ``dataset-*``.
    """
    with tempfile.TemporaryDirectory(prefix="import-", dir=into.parent) as folder:
        root = Path(folder)
        skipped: list[str] = []
        names = _unpack_nested(unpack(archive, root, limits, skipped), root, limits, skipped)
        listing = Listing(root, names)
        choice = formats.choose(listing, layout)
        parsed = formats.read(listing, choice.name)
        parsed.classes = readable_classes(parsed.classes)

        checked: list[package.Checked] = []
        for done, item in enumerate(_check(root, parsed, images)):
            progress(done + 1, len(parsed.samples))
            if item is not None:
                checked.append(item)

        kept = [item.sample for item in checked]
        account = take_account(listing, skipped, parsed, kept)
        _refuse_if_unusable(parsed, checked, account, strict)
        if not allow_losses:
            refuse_losses(account, _problems(parsed))

        staged = root / "package.zip"
        package.write(staged, name, parsed.task, parsed.classes, parsed.format, checked)
        shutil.move(staged, into)

    counts = package.count(kept, parsed.classes)
    flaws = parsed.flaws
    return Imported(name, parsed.task, parsed.format, parsed.classes, counts, flaws.first, flaws.count, choice, account)


def _unpack_nested(names: list[str], root: Path, limits: ArchiveLimits, skipped: list[str]) -> list[str]:
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
        own: list[str] = []
        try:
            entries = unpack(inner, target, rest, own)
        finally:
            inner.unlink()

        left -= sum((target / entry).stat().st_size for entry in entries)
        found += [f"{name}/{entry}" for entry in entries]
        skipped += [f"{name}/{entry}" for entry in own]
    return found


def _check(root: Path, parsed: Parsed, images: Limits) -> Iterator[package.Checked | None]:
    """Each sample with its image decoded once and its boxes in the pixels of the image as it is displayed."""
    for sample in parsed.samples:
        try:
            images.check_bytes((root / sample.path).stat().st_size)
            container = read_container((root / sample.path).read_bytes(), images)
            shown = decode_picture(container)
        except Problem as problem:
            parsed.flaws.append(Flaw(sample.path, None, problem.detail or problem.title, reason=problem.title))
            yield None
            continue

        placed = place_boxes(sample, (container.width, container.height), (shown.width, shown.height), container.exif)
        if isinstance(placed, str):
            parsed.flaws.append(Flaw(sample.path, None, placed, reason="images whose annotations do not fit them"))
            yield None
            continue
        yield package.Checked(placed, root / sample.path, shown.width, shown.height)


def _refuse_if_unusable(parsed: Parsed, checked: list[package.Checked], account: Account, strict: bool) -> None:
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
        extra={"account": account.document(), "problems": _problems(parsed)},
    )


def _problems(parsed: Parsed) -> list[dict[str, Any]]:
    return [{"file": flaw.file, "line": flaw.line, "message": flaw.message} for flaw in parsed.flaws.first[:100]]
