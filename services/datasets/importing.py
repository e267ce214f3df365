"""From an uploaded archive to a package: unpack, find the layout, decode every image once, keep what is sound."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from services.datasets import formats, package
from services.datasets.account import Account, refuse_losses, take_account
from services.datasets.archive import ArchiveLimits, Budget, Watch, unpack, unpack_nested
from services.datasets.formats import Choice
from services.datasets.frames import place_boxes
from services.datasets.listing import Listing
from services.datasets.samples import Flaw, Parsed, Task, readable_classes
from services.errors import Kind, Problem
from services.media.exif import turn
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
    afford: Callable[[int], None] = lambda size: None,
    progress: Progress = lambda done, total: None,
    watch: Watch = lambda: None,
) -> Imported:
    """Write the package of ``archive`` to ``into``; on any refusal nothing is left behind.

    With ``strict`` the first flaw refuses the whole; otherwise what a flaw touches is left out and listed, unless a
    class, a split or more than a tenth is lost and ``allow_losses`` is not set. ``layout`` names how the files are laid
    out where it is not to be found out. ``afford`` is given the bytes of the package before they are written, and
    ``watch`` is called throughout: both may raise to end the import. Raises :class:`Problem` ``archive-*``,
    ``dataset-*``.
    """
    with tempfile.TemporaryDirectory(prefix="import-", dir=into.parent) as folder:
        root = Path(folder)
        skipped: list[str] = []
        budget = Budget(limits, archive.stat().st_size)
        names = unpack(archive, root, limits, skipped, budget=budget, watch=watch)
        names = unpack_nested(names, root, limits, skipped, budget=budget, watch=watch)
        listing = Listing(root, names, watch)
        choice = formats.choose(listing, layout)
        parsed = formats.read(listing, choice.name)
        parsed.classes = readable_classes(parsed.classes)
        if budget.guessed:
            parsed.flaws.append(_guessed(budget.guessed))

        checked: list[package.Checked] = []
        for done, item in enumerate(_check(root, parsed, images)):
            watch()
            progress(done + 1, len(parsed.samples))
            if item is not None:
                checked.append(item)

        kept = [item.sample for item in checked]
        account = take_account(listing, skipped, parsed, kept)
        _refuse_if_unusable(parsed, checked, account, strict)
        if not allow_losses:
            refuse_losses(account, _problems(parsed))

        staged = root / "package.zip"
        package.write(staged, name, parsed.task, parsed.classes, parsed.format, _afforded(checked, afford, watch))
        shutil.move(staged, into)

    counts = package.count(kept, parsed.classes)
    flaws = parsed.flaws
    return Imported(name, parsed.task, parsed.format, parsed.classes, counts, flaws.first, flaws.count, choice, account)


def _guessed(names: list[str]) -> Flaw:
    return Flaw(
        names[0],
        None,
        f"the zip does not say how {len(names):,} names are encoded; they were read as code page 437, which looks "
        "wrong: pack it again with names in UTF-8",
    )


@dataclass(frozen=True, slots=True)
class _Decoded:
    """An image that was decoded once: its stored and its displayed size, and how EXIF turns it."""

    stored: tuple[int, int]
    shown: tuple[int, int]
    turned: Image.Transpose | None


def _check(root: Path, parsed: Parsed, images: Limits) -> Iterator[package.Checked | None]:
    """Each sample with its boxes in the pixels of the image as it is displayed; every image is decoded once."""
    known: dict[str, _Decoded | Flaw] = {}
    for sample in parsed.samples:
        if sample.path not in known:
            known[sample.path] = _decode(root, sample.path, images)
        found = known[sample.path]
        if isinstance(found, Flaw):
            parsed.flaws.append(found)
            yield None
            continue

        placed = place_boxes(sample, found.stored, found.shown, found.turned)
        if isinstance(placed, str):
            parsed.flaws.append(Flaw(sample.path, None, placed, reason="images whose annotations do not fit them"))
            yield None
            continue
        yield package.Checked(placed, root / sample.path, *found.shown)


def _decode(root: Path, path: str, images: Limits) -> _Decoded | Flaw:
    try:
        images.check_bytes((root / path).stat().st_size)
        container = read_container((root / path).read_bytes(), images)
        shown = decode_picture(container)
    except Problem as problem:
        return Flaw(path, None, problem.detail or problem.title, reason=problem.title)
    turned = turn(container.exif) if container.exif else None
    return _Decoded((container.width, container.height), (shown.width, shown.height), turned)


def _afforded(
    checked: Sequence[package.Checked], afford: Callable[[int], None], watch: Watch
) -> Iterator[package.Checked]:
    """``checked`` as they are written, an image at a time: each is stored once, however many samples name it."""
    seen: set[Path] = set()
    size = 0
    for item in checked:
        watch()
        if item.file not in seen:
            seen.add(item.file)
            size += item.file.stat().st_size
            afford(size)
        yield item


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
