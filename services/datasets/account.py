"""The account of an import: every file and every annotation of the upload, read or left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from services.datasets.listing import Listing
from services.datasets.samples import Group, Parsed, Sample
from services.errors import Kind, Problem

MOST_LOST = 0.1
"""The share of the images, or of the annotations, that may be left out without being asked."""


@dataclass(slots=True)
class Tally:
    """How many there are, how many were read, and those that were left out by reason."""

    seen: int = 0
    read: int = 0
    left_out: dict[str, Group] = field(default_factory=dict)

    def leave_out(self, reason: str, example: str) -> None:
        self.left_out.setdefault(reason, Group()).add(example)

    def document(self) -> dict[str, Any]:
        groups = sorted(self.left_out.items(), key=lambda one: -one[1].count)
        return {
            "seen": self.seen,
            "read": self.read,
            "left_out": [{"reason": why, **asdict(own)} for why, own in groups],
        }


@dataclass(slots=True)
class Account:
    """``seen`` is ``read`` and ``left_out`` together, of files and of annotations; ``lost`` is gone whole."""

    files: Tally
    annotations: Tally
    images_seen: int
    images_read: int
    lost: list[str]

    def document(self) -> dict[str, Any]:
        return {"files": self.files.document(), "annotations": self.annotations.document(), "lost": self.lost}


def take_account(listing: Listing, skipped: Sequence[str], parsed: Parsed, kept: Sequence[Sample]) -> Account:
    """The account of an upload whose samples ``kept`` were sound; ``skipped`` are files like ``.DS_Store``."""
    files = _files(listing, skipped, parsed, kept)
    annotations = Tally(seen=parsed.annotations, left_out=dict(parsed.flaws.annotations))
    kept_paths = {sample.path for sample in kept}
    for sample in parsed.samples:
        if sample.path not in kept_paths:
            own = sample.annotations or len(sample.boxes) or len(sample.labels) or len(sample.captions)
            for _ in range(own):
                annotations.leave_out("annotations of images that were left out", sample.path)
    annotations.read = annotations.seen - sum(group.count for group in annotations.left_out.values())

    images_read = len(kept_paths)
    return Account(files, annotations, len(listing.pictures), images_read, _lost(parsed, kept))


def refuse_losses(account: Account, problems: list[dict[str, Any]]) -> None:
    """Raise ``dataset-losses`` where a class, a split, or more than a tenth of the images or annotations is lost."""
    wrong = list(account.lost)
    for what, seen, read in (
        ("images", account.images_seen, account.images_read),
        ("annotations", account.annotations.seen, account.annotations.read),
    ):
        if seen and (seen - read) / seen > MOST_LOST:
            wrong.append(f"{seen - read:,} of {seen:,} {what}")
    if not wrong:
        return

    reasons = [*account.files.left_out.items(), *account.annotations.left_out.items()]
    main = max(reasons, key=lambda one: one[1].count, default=None)
    because = f" Mostly: {main[0]}, as {main[1].examples[0]}." if main is not None else ""
    raise Problem(
        Kind.INVALID,
        "dataset-losses",
        "Too much of the data set would be lost",
        f"What cannot be read: {'; '.join(wrong[:10])}.{because}",
        pointer="/allow_losses",
        remedy="Correct what `account` and `problems` list, or send allow_losses=true (`--allow-losses`) to keep what "
        "is sound.",
        extra={"account": account.document(), "problems": problems},
    )


def _files(listing: Listing, skipped: Sequence[str], parsed: Parsed, kept: Sequence[Sample]) -> Tally:
    tally = Tally(seen=len(listing.names) + len(skipped))
    read = {sample.path for sample in kept} | set(parsed.label_files)
    images = set(listing.images)
    for name in listing.names:
        if name in read:
            tally.read += 1
        elif name in listing.other_images:
            tally.leave_out(f"{listing.other_images[name]} is not decoded here; convert it to JPEG or PNG", name)
        elif name in parsed.flaws.files:
            tally.leave_out(parsed.flaws.files[name], name)
        elif name in images:
            tally.leave_out("images that no annotation names", name)
        else:
            tally.leave_out(f"files that layout {parsed.format} does not use", name)

    for name in skipped:
        tally.leave_out("files of an operating system", name)

    return tally


def _lost(parsed: Parsed, kept: Sequence[Sample]) -> list[str]:
    """Classes and splits that annotations name and of which no sample is left."""
    left: Counter[int] = Counter()
    for sample in kept:
        left.update({*sample.labels, *(box.label for box in sample.boxes)})
    classes = [parsed.classes[index] for index in sorted(parsed.class_seen) if not left[index]]
    splits = sorted(set(parsed.split_seen) - {sample.split for sample in kept})
    shown = [f"class {name!r}" for name in classes[:20]]
    if len(classes) > 20:
        shown.append(f"{len(classes) - 20:,} more classes")
    return [*shown, *(f"the whole split {name!r}" for name in splits), *parsed.also_lost]
