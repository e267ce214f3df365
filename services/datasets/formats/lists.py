"""ELEVATER's vision-dataset lists: ``train.txt`` with lines ``train.zip@path label[,label...]`` and ``labels.txt``.

Reference: vision-datasets 0.2.17, the IRIS format. A line is split at its last blank (or tab, for ``.tsv``); labels
are indices into the label map, counted from 0. ``labelmap.txt`` and ``labels.txt`` name one class a line.
Zips inside of the archive are unpacked by the importer into a folder of the zip's own name.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, Unreadable
from services.datasets.samples import SPLITS, Flaw, Parsed, Sample, Split

NAME = "iris"
LABEL_MAPS = ("labels.txt", "labelmap.txt", "label_map.txt", "classes.txt")
_TRIED = 200
_UNUSABLE = "lines that cannot be used"


class Wrong(Exception):
    """A line cannot be used; the text says why."""


def fit(listing: Listing) -> Fit | None:
    """Return how many of the first lines of each list name an image and classes."""
    maps = listing.called(*LABEL_MAPS)
    if not maps:
        return None

    tried = sound = 0
    for name in _lists(listing):
        for line in _lines(listing, name)[:_TRIED]:
            tried += 1
            sound += _looks_so(listing, name, line)

    if not sound:
        return None

    return Fit(
        share(sound, tried), f"{sound} of {tried} lines of {', '.join(_lists(listing)[:3])} name an image and its class"
    )


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "classification", [])
    map_name = listing.called(*LABEL_MAPS)[0]
    try:
        # A blank line in between is a class without a name, and keeps its number.
        parsed.classes = listing.text(map_name).rstrip().splitlines()
        parsed.label_files.append(map_name)
    except Unreadable as error:
        parsed.flaws.append(Flaw(map_name, None, str(error)))
    for name in _lists(listing):
        split = SPLITS[PurePosixPath(name).stem.lower().split("_")[0]]
        try:
            lines = listing.text(name).splitlines()
        except Unreadable as error:
            parsed.flaws.append(Flaw(name, None, str(error)))
            parsed.see_split(split)
            continue

        parsed.label_files.append(name)
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            parsed.count()
            parsed.split_seen[split] += 1
            try:
                path, labels = _entry(listing, name, line, split)
            except Wrong as error:
                parsed.lose(name, number, str(error), reason=_UNUSABLE)
                continue
            if not all(0 <= label < len(parsed.classes) for label in labels):
                shown = ",".join(map(str, labels))
                names = len(parsed.classes)
                message = f"class index {shown} is outside of the {names} names of the label map"
                parsed.lose(name, number, message, reason=_UNUSABLE)
                continue
            parsed.class_seen.update(labels)
            parsed.samples.append(Sample(path, split, labels, annotations=1))

    if any(len(sample.labels) != 1 for sample in parsed.samples):
        parsed.task = "multilabel"
    return parsed


def _lists(listing: Listing) -> list[str]:
    return [
        name for name in listing.suffixed(".txt", ".tsv") if PurePosixPath(name).stem.lower().split("_")[0] in SPLITS
    ]


def _lines(listing: Listing, name: str) -> list[str]:
    try:
        return listing.text(name).splitlines()
    except Unreadable:
        return []


def _looks_so(listing: Listing, name: str, line: str) -> bool:
    try:
        _entry(listing, name, line, "train")
    except Wrong:
        return False
    return True


def _entry(listing: Listing, name: str, line: str, split: Split) -> tuple[str, tuple[int, ...]]:
    """The image and the class numbers of one line. Raises :class:`Wrong`."""
    place, separator, wanted = line.rstrip().rpartition("\t" if "\t" in line else " ")
    if not separator:
        raise Wrong("expected 'path label[,label...]'")
    path = listing.find(place.strip().replace("@", "/"), beside=name, split=split)
    if path is None:
        raise Wrong(f"{place.strip()!r} is not in the archive")
    try:
        return path, tuple(sorted({int(label) for label in wanted.split(",")}))
    except ValueError:
        raise Wrong(f"{wanted!r} is not a list of class indices") from None
