"""YOLO: a text file an image, one object a line: ``class cx cy w h`` in shares of the image's sides, or a polygon.

Label files lie in ``labels/`` where the images lie in ``images/`` (Ultralytics: ``images/train``, ``labels/train``;
Roboflow: ``train/images``, ``train/labels``) or beside the images (Darknet: ``obj_train_data``). Class names come from
``data.yaml``, ``obj.names``, ``classes.txt`` or ``*.names``. An image without a label file shows no object.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import yaml

from services.datasets.formats.boxes import xyxy_of_yolo
from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, Unreadable, folded
from services.datasets.samples import Box, Classes, Flaw, Parsed, Sample, folder_split, named_split

NAME = "yolo"
_NAME_LISTS = ("obj.names", "classes.txt", "labels.txt", "class_names.txt")
_TRIED = 50
_YAML_CHARS = 1 << 20
"""Of a yaml: names of 10,000 classes take a fifth of it, and parsing it takes seconds."""

MAX_CLASSES = 100_000


def fit(listing: Listing) -> Fit | None:
    pairs = _pairs(listing)
    tried = list(pairs.values())[:_TRIED]
    sound = sum(_looks_so(listing, name) for name in tried)
    if not sound:
        return None
    named = _names_file(listing)
    why = f"{len(pairs):,} of {len(listing.pictures):,} images have a text file of boxes"
    paired = share(len(pairs), len(listing.pictures))
    # With a list of names the rest are images that show nothing; without one they may be anything.
    score = share(sound, len(tried)) * (max(paired, 0.95) if named else paired)
    return Fit(score, f"{why}, names in {named}" if named else why)


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "detection", [])
    pairs = _pairs(listing)
    lists = _split_lists(listing)
    boxes = {image: _boxes(listing, label_file, parsed) for image, label_file in pairs.items()}
    parsed.classes = _class_names(listing, boxes, parsed)
    parsed.label_files += [*pairs.values(), *lists.values()]
    listed = {image: split for split, name in lists.items() for image in _listed(listing, name)}
    for image in listing.pictures:
        split = listed.get(image) or folder_split(image) or "train"
        kept: list[Box] = []
        parsed.split_seen[split] += 1
        for line, box in boxes.get(image, []):
            if box.label >= len(parsed.classes):
                message = f"class {box.label} is none of the {len(parsed.classes):,} that are named"
                parsed.lose(pairs[image], line, message, reason="boxes of a class without a name")
                continue
            parsed.class_seen[box.label] += 1
            kept.append(box)
        labels = tuple(sorted({box.label for box in kept}))
        parsed.samples.append(Sample(image, split, labels, tuple(kept), relative=True))

    return parsed


def _pairs(listing: Listing) -> dict[str, str]:
    """Images with their label files."""
    texts = {folded(name): name for name in listing.suffixed(".txt")}
    found: dict[str, str] = {}
    for image in listing.pictures:
        for candidate in (_in_labels(image), PurePosixPath(image).with_suffix(".txt")):
            name = texts.get(folded(str(candidate))) if candidate is not None else None
            if name is not None:
                found[image] = name
                break
    return found


def _in_labels(image: str) -> PurePosixPath | None:
    """``a/labels/b.txt`` for ``a/images/b.jpg``, the innermost such folder."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    for depth in range(len(parts) - 2, -1, -1):
        if parts[depth].lower() == "images":
            return PurePosixPath(*parts[:depth], "labels", *parts[depth + 1 :])
    return None


def _looks_so(listing: Listing, name: str) -> bool:
    """Return whether a label file's first line is an object; an empty one says that nothing is shown."""
    try:
        lines = [line for line in listing.text(name).splitlines() if line.strip()]
    except Unreadable:
        return False
    return not lines or isinstance(_line(lines[0]), Box)


def _line(text: str) -> Box | str:
    words = text.split()
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return "not a class and numbers"
    if not label.is_integer() or not 0 <= label < MAX_CLASSES:
        return f"{words[0]!r} is not the number of a class"
    box = xyxy_of_yolo(values[:4] if len(values) == 5 else values)  # a fifth number is a detector's confidence
    return box if isinstance(box, str) else Box(int(label), box)


def _boxes(listing: Listing, name: str, parsed: Parsed) -> list[tuple[int, Box]]:
    try:
        text = listing.text(name)
    except Unreadable as error:
        parsed.flaws.append(Flaw(name, None, str(error)))
        return []

    found: list[tuple[int, Box]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parsed.count()
        box = _line(line)
        if isinstance(box, str):
            parsed.lose(name, number, box, reason="lines that are no box")
        else:
            found.append((number, box))

    return found


def _names_file(listing: Listing) -> str | None:
    return next((name for name in _names_files(listing) if _names_in(listing, name)), None)


def _names_files(listing: Listing) -> list[str]:
    """Files that may name the classes, the likeliest first."""
    return [*listing.suffixed(".yaml", ".yml"), *listing.called(*_NAME_LISTS), *listing.suffixed(".names")]


def _names_in(listing: Listing, name: str) -> list[str]:
    """Class names of a yaml (``names``: a list, or names by number) or of a list, one a line."""
    try:
        text = listing.text(name)
    except Unreadable:
        return []
    if not name.lower().endswith((".yaml", ".yml")):
        return text.rstrip().splitlines()

    if len(text) > _YAML_CHARS:
        return []
    try:
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):  # ValueError: a day that no calendar has
        return []
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and names and all(isinstance(key, int) and 0 <= key < MAX_CLASSES for key in names):
        names = [names.get(number, "") for number in range(max(names) + 1)]
    # Only plain values are written out: references in a yaml can stand for more text than any memory holds.
    if not isinstance(names, list) or not all(isinstance(one, str | int | float) for one in names):
        return []
    return [str(one) for one in names]


def _class_names(listing: Listing, boxes: dict[str, list[tuple[int, Box]]], parsed: Parsed) -> list[str]:
    file = _names_file(listing)
    if file is not None:
        parsed.label_files.append(file)
        return _names_in(listing, file)
    for unread in _names_files(listing):
        try:
            listing.text(unread)
        except Unreadable as error:
            parsed.flaws.append(Flaw(unread, None, str(error)))
            parsed.also_lost.append(f"the names of the classes ({unread}: {error})")
    numbers = {box.label for found in boxes.values() for _, box in found}
    parsed.flaws.append(
        Flaw("", None, "no data.yaml, obj.names or classes.txt names the classes: they are called by number")
    )
    return Classes(f"class {number}" for number in range(max(numbers, default=-1) + 1)).names


def _split_lists(listing: Listing) -> dict[Any, str]:
    """Darknet's lists of images, ``train.txt``, by split."""
    found: dict[Any, str] = {}
    for name in listing.suffixed(".txt"):
        stem = PurePosixPath(name).stem.lower()
        split = named_split(stem)
        if split is not None and stem in ("train", "val", "valid", "test") and _listed(listing, name):
            found.setdefault(split, name)
    return found


def _listed(listing: Listing, name: str) -> list[str]:
    try:
        lines = listing.text(name).splitlines()
    except Unreadable:
        return []
    found = (listing.find(line, beside=name) for line in lines if line.strip())
    return [image for image in found if image is not None]
