"""Class folders: ``[split/]class/image`` or ``class/split/image``, at any depth below folders that all share.

The folder's name is the class; folders below it belong to it. Without a folder that names a split all is ``train``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing
from services.datasets.samples import Classes, Flaw, Parsed, Sample, Split, split_of

NAME = "folders"

_NO_CLASS = frozenset(
    [
        "images",
        "image",
        "imgs",
        "img",
        "pictures",
        "photos",
        "frames",
        "data",
        "dataset",
        "files",
        "jpegimages",
        "labels",
        "annotations",
        "masks",
        "raw",
    ]
)
"""Names of folders that hold whatever images there are, so that they name no class."""

_LOOK = 20_000
"""Images that decide where the split and the class stand."""


def fit(listing: Listing) -> Fit | None:
    placed = _Places(listing.pictures)
    names = Counter(label for name in listing.pictures[:_LOOK] if (label := placed.of(name)[1]) is not None)
    if not names:
        return None

    why = f"images in {len(names):,} folders, as {', '.join(repr(name) for name, _ in names.most_common(3))}"
    real = [name for name in names if name.lower() not in _NO_CLASS]
    if not real:
        return Fit(0.05, f"{why}; none of them names a class")
    if len(names) == 1:
        return Fit(0.3, why)
    return Fit(0.9 * share(sum(names.values()), len(listing.pictures[:_LOOK])), why)


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "classification", [])
    placed = _Places(listing.pictures)
    found: list[tuple[str, Split, str]] = []
    for name in listing.pictures:
        split, label = placed.of(name)
        if label is None:
            parsed.flaws.append(Flaw(name, None, "the image lies in no class folder"))
            continue
        found.append((name, split, label))

    classes = Classes(sorted({label for _, _, label in found}))
    parsed.classes = classes.names
    for name, split, label in found:
        index = classes.index(label)
        assert index is not None
        parsed.count()
        parsed.class_seen[index] += 1
        parsed.split_seen[split] += 1
        parsed.samples.append(Sample(name, split, (index,), annotations=1))
    return parsed


class _Places:
    """At which depth the split and the class stand, decided by all images together."""

    def __init__(self, images: list[str]) -> None:
        folders = [PurePosixPath(name).parent.parts for name in images[:_LOOK]]
        self._split = _split_depth(folders)
        self._class = _class_depth(folders, self._split)

    def of(self, name: str) -> tuple[Split, str | None]:
        """Split and class of an image; no class where it lies too far up."""
        parts = PurePosixPath(name).parent.parts
        split: Split = "train"
        said = split_of(parts[self._split]) if self._split is not None and len(parts) > self._split else None
        if said is not None:
            split = said
        elif self._split is not None and (self._class or 0) > self._split:
            parts = (*parts[: self._split], "", *parts[self._split :])  # an image beside the split folders
        return split, parts[self._class] if self._class is not None and len(parts) > self._class else None


def _split_depth(folders: list[tuple[str, ...]]) -> int | None:
    """The depth at which most folders name a split."""
    counts: Counter[int] = Counter()
    for parts in folders:
        counts.update(depth for depth, part in enumerate(parts) if split_of(part) is not None)
    for depth, count in sorted(counts.items()):
        if count >= 0.5 * len(folders):
            return depth
    return None


def _class_depth(folders: list[tuple[str, ...]], split: int | None) -> int | None:
    """The first depth, the split's aside, at which folders differ.

    Where all are the same: below the split's folder, else the last. ``None`` where there is none but the split's.
    """
    deepest = max((len(parts) for parts in folders), default=0)
    candidates = [depth for depth in range(deepest) if depth != split]
    for depth in candidates:
        heads = {parts[depth] for parts in folders if len(parts) > depth}
        if len(heads) > 1:
            return depth
    below = [depth for depth in candidates if split is not None and depth > split]
    return below[0] if below else candidates[-1] if candidates else None
