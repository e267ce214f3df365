"""COCO json: images, annotations and categories; boxes ``x, y, w, h``, labels or captions; one json a split or for all.

Also the forms of the ELEVATER toolkit's vision-datasets (annotations without ``bbox`` are labels, ``bbox_format:
ltrb``, ``zip_file`` beside ``file_name``, ``train.zip@image.jpg``), of Roboflow (``_annotations.coco.json`` in each
split's folder) and of Label Studio (paths of its own server). Each file's category ids mean that file's names; classes
are ordered by id and counted from 0, as vision-datasets does, where the files agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.datasets.formats.boxes import xyxy_of_coco, xyxy_of_polygons, xyxy_of_rle
from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, Unreadable
from services.datasets.samples import Box, Classes, Flaw, Parsed, Sample, Split, folder_split, named_split, task_of

NAME = "coco"


@dataclass(slots=True)
class _Image:
    path: str
    split: Split
    size: tuple[float, float] | None
    labels: set[int] = field(default_factory=set)
    boxes: list[Box] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    annotations: int = 0


def fit(listing: Listing) -> Fit | None:
    documents = _documents(listing)
    if not documents:
        return None
    named: set[str] = set()
    for name, document in documents.items():
        for entry in document["images"]:
            found = _file_of(entry, name, listing)
            if found is not None:
                named.add(found)
    why = f"{', '.join(list(documents)[:3])} lists {len(named):,} of {len(listing.pictures):,} images"
    return Fit(max(0.4, share(len(named), len(listing.pictures))), why)


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "detection", [])
    for name in listing.suffixed(".json"):
        try:
            document = listing.json(name)
        except Unreadable as error:
            parsed.flaws.append(Flaw(name, None, str(error)))
            continue
        if not _is_coco(document):
            parsed.flaws.append(Flaw(name, None, "no list 'images': not a COCO file"))

    documents = _documents(listing)
    parsed.label_files = list(documents)
    categories = {name: _categories(name, document, parsed) for name, document in documents.items()}
    classes = _classes(categories)
    parsed.classes = classes.names
    images: dict[str, _Image] = {}
    for name, document in documents.items():
        ids = {key: classes.index(label) for key, label in categories[name].items()}
        _Reader(name, listing, ids, images, parsed).read(document)

    parsed.samples = [
        Sample(
            one.path,
            one.split,
            tuple(sorted(one.labels)),
            tuple(one.boxes),
            tuple(one.captions),
            frame=one.size,
            annotations=one.annotations,
        )
        for one in images.values()
    ]
    parsed.task = task_of(parsed.samples, len(parsed.classes))
    return parsed


def _documents(listing: Listing) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in listing.suffixed(".json"):
        try:
            document = listing.json(name)
        except Unreadable:
            continue
        if _is_coco(document):
            found[name] = document
    return found


def _is_coco(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("images"), list)


def _file_of(entry: Any, document: str, listing: Listing) -> str | None:
    """The file that an entry of ``images`` names."""
    file_name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(file_name, str):
        return None
    archive = entry.get("zip_file")
    if isinstance(archive, str):
        file_name = f"{archive}/{file_name}"
    return listing.find(file_name.replace("@", "/", 1) if ".zip@" in file_name else file_name,
                        beside=document, split=named_split(document))  # fmt: skip


def _categories(name: str, document: dict[str, Any], parsed: Parsed) -> dict[str, str]:
    """The names of one file's categories by id."""
    found: dict[str, str] = {}
    for position, category in enumerate(_list(document, "categories")):
        key = _id(category.get("id")) if isinstance(category, dict) else None
        if key is None or "name" not in category:
            parsed.flaws.append(Flaw(name, None, f"categories[{position}] has no id and name"))
        elif found.setdefault(key, str(category["name"])) != str(category["name"]):
            parsed.flaws.append(Flaw(name, None, f"category {key} has two names; the first stands"))
    return found


def _classes(categories: dict[str, dict[str, str]]) -> Classes:
    """All names: by id where every file gives an id one name, else in the order of the files."""
    merged: dict[str, str] = {}
    agree = all(merged.setdefault(key, label) == label for own in categories.values() for key, label in own.items())
    if agree:
        return Classes(dict.fromkeys(merged[key] for key in sorted(merged, key=_order)))
    return Classes(dict.fromkeys(own[key] for own in categories.values() for key in sorted(own, key=_order)))


def _order(key: str) -> tuple[float, str]:
    return (float(key), "") if key.lstrip("-").isdigit() else (float("inf"), key)


def _id(value: Any) -> str | None:
    """An id of any type as one text: ``3``, ``3.0`` and ``"3"`` are the same."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


class _Reader:
    """Reads one file into ``images``, which all files share."""

    def __init__(
        self, name: str, listing: Listing, ids: dict[str, int | None], images: dict[str, _Image], parsed: Parsed
    ) -> None:
        self._name = name
        self._listing = listing
        self._ids = ids
        self._images = images
        self._parsed = parsed
        self._own: dict[str, _Image] = {}
        self._corners = False

    def read(self, document: dict[str, Any]) -> None:
        self._corners = document.get("bbox_format") == "ltrb"
        for position, entry in enumerate(document["images"]):
            self._image(f"images[{position}]", entry)
        for position, note in enumerate(_list(document, "annotations")):
            self._parsed.count()
            self._annotation(f"annotations[{position}]", note if isinstance(note, dict) else {})

    def _image(self, where: str, entry: Any) -> None:
        key = _id(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not isinstance(entry.get("file_name"), str):
            self._flaw(f"{where} has no id and file_name", "an entry of images without id or file_name")
            return
        path = _file_of(entry, self._name, self._listing)
        if path is None:
            self._flaw(f"{where}: {entry['file_name']!r} is not in the archive", "images that are not in the archive")
            return

        width, height = entry.get("width"), entry.get("height")
        known = isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0
        split = named_split(self._name) or folder_split(path) or "train"
        image = self._images.setdefault(path, _Image(path, split, (width, height) if known else None))
        self._own[key] = image
        self._parsed.split_seen[image.split] += 1

    def _annotation(self, where: str, note: dict[str, Any]) -> None:
        image = self._own.get(_id(note.get("image_id")) or "")
        label = self._ids.get(_id(note.get("category_id")) or "")
        if label is not None:
            self._parsed.class_seen[label] += 1
        if image is None:
            self._lost(f"{where} belongs to no readable image", "annotations of no readable image")
            return
        if isinstance(note.get("caption"), str) and note["caption"].strip():
            image.captions.append(note["caption"])
            image.annotations += 1
            return
        if label is None:
            self._lost(
                f"{where} has the unknown category {note.get('category_id')!r}", "annotations of an unknown category"
            )
            return

        box = self._box(note, image.size)
        if isinstance(box, str):
            self._lost(f"{where}: {box}", "boxes that cannot be used")
            return

        image.annotations += 1
        image.labels.add(label)
        if box is not None:
            image.boxes.append(Box(label, box, ignore=note.get("iscrowd") in (1, True, "1")))

    def _box(
        self, note: dict[str, Any], size: tuple[float, float] | None
    ) -> tuple[float, float, float, float] | str | None:
        """``xyxy``; ``None`` for an annotation without a place, a text for one that cannot be used."""
        if note.get("bbox") not in (None, []):
            return xyxy_of_coco(note["bbox"], corners=self._corners, size=size)
        polygons = note.get("segmentation")
        if isinstance(polygons, dict):
            return xyxy_of_rle(polygons, size=size)
        return xyxy_of_polygons(polygons, size=size) if isinstance(polygons, list) and polygons else None

    def _flaw(self, message: str, reason: str) -> None:
        """Of an image's entry: the json file itself was read."""
        self._parsed.see_split(named_split(self._name))
        self._parsed.count()
        self._lost(message, reason)

    def _lost(self, message: str, reason: str) -> None:
        self._parsed.lose(self._name, None, message, reason=reason)
