"""COCO json: images, annotations and categories; boxes ``x, y, w, h`` or captions; one json a split or one for all.

Also the classification form of the ELEVATER toolkit (annotations with ``category_id`` and no ``bbox``) and its
``bbox_format: ltrb``. Categories are ordered by id and counted from 0, as vision-datasets does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from services.datasets.samples import SPLITS, Box, Flaw, Flaws, Parsed, Sample, Split

MAX_JSON_BYTES = 64 << 20
"""Of all json files together: as objects they take some twenty times as much."""


def matches(names: list[str]) -> bool:
    return any(name.endswith(".json") for name in names)


@dataclass(slots=True)
class _Image:
    path: str
    split: Split
    size: tuple[float, float] | None
    labels: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def read(root: Path, names: list[str]) -> Parsed:
    parsed = Parsed("coco", "detection", [])
    documents: dict[str, dict[str, Any]] = {}
    left = MAX_JSON_BYTES
    for name in (name for name in names if name.endswith(".json")):
        document = _load(root / name, name, left, parsed.flaws)
        left -= (root / name).stat().st_size
        if document is not None:
            documents[name] = document
    ids = _categories(documents, parsed)
    images: dict[str, _Image] = {}
    lookup = _Lookup(names)
    for name, document in documents.items():
        _read_document(name, document, ids, lookup, images, parsed.flaws)
    if any(image.boxes for image in images.values()):
        parsed.task = "detection"
    elif any(image.captions for image in images.values()):
        parsed.task = "captions"
    else:
        single = all(len(image.labels) == 1 for image in images.values())
        parsed.task = "classification" if single else "multilabel"
    parsed.samples = [
        Sample(image.path, image.split, tuple(sorted(set(image.labels))), tuple(image.boxes), tuple(image.captions))
        for image in images.values()
    ]
    return parsed


def _load(path: Path, name: str, left: int, flaws: Flaws) -> dict[str, Any] | None:
    if path.stat().st_size > left:
        flaws.append(Flaw(name, None, f"the json files are larger than {MAX_JSON_BYTES >> 20} MiB together"))
        return None
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        flaws.append(Flaw(name, getattr(error, "lineno", None), f"not JSON: {error}"))
        return None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        flaws.append(Flaw(name, None, "no list 'images': not a COCO file"))
        return None
    return document


def _categories(documents: Mapping[str, dict[str, Any]], parsed: Parsed) -> dict[Any, int]:
    found: dict[int, str] = {}
    for name, document in documents.items():
        for position, category in enumerate(_list(document, "categories")):
            if not isinstance(category, dict) or not isinstance(category.get("id"), int) or "name" not in category:
                parsed.flaws.append(Flaw(name, None, f"categories[{position}] has no id and name"))
            elif found.setdefault(category["id"], str(category["name"])) != str(category["name"]):
                parsed.flaws.append(Flaw(name, None, f"category {category['id']} has two names"))
    parsed.classes = [found[key] for key in sorted(found)]
    return {key: index for index, key in enumerate(sorted(found))}


class _Lookup:
    """Finds the file that a ``file_name`` means: as given, beside the json, or the only file of that name."""

    def __init__(self, names: list[str]) -> None:
        self._names = set(names)
        self._by_base: dict[str, list[str]] = {}
        for name in names:
            self._by_base.setdefault(PurePosixPath(name).name, []).append(name)

    def find(self, file_name: str, document: str, split: Split) -> str | None:
        folder = PurePosixPath(document).parent
        for candidate in (folder / file_name, PurePosixPath(file_name), folder / "images" / file_name):
            if str(candidate) in self._names:
                return str(candidate)
        same = self._by_base.get(PurePosixPath(file_name).name, [])
        own = [name for name in same if any(SPLITS.get(part.lower()) == split for part in PurePosixPath(name).parts)]
        return own[0] if len(own) == 1 else same[0] if len(same) == 1 else None


def _split_of(name: str) -> Split:
    """The split that a json's folder or file name mentions; ``train`` when neither does."""
    path = PurePosixPath(name)
    words = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
    for word in [*words, *(part.lower() for part in reversed(path.parent.parts))]:
        for stem in (word, word.rstrip("0123456789")):
            if stem in SPLITS:
                return SPLITS[stem]
    return "train"


def _read_document(
    name: str,
    document: dict[str, Any],
    ids: dict[Any, int],
    lookup: _Lookup,
    images: dict[str, _Image],
    flaws: Flaws,
) -> None:
    split = _split_of(name)
    own: dict[Any, _Image] = {}
    for position, entry in enumerate(document["images"]):
        file_name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(file_name, str) or not isinstance(entry.get("id"), int | str):
            flaws.append(Flaw(name, None, f"images[{position}] has no id and file_name"))
            continue
        path = lookup.find(file_name, name, split)
        if path is None:
            flaws.append(Flaw(name, None, f"images[{position}]: {file_name!r} is not in the archive"))
            continue
        width, height = entry.get("width"), entry.get("height")
        known = isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0
        own[entry["id"]] = images.setdefault(path, _Image(path, split, (width, height) if known else None))
    left_top_right_bottom = document.get("bbox_format") == "ltrb"
    for position, note in enumerate(_list(document, "annotations")):
        where = f"annotations[{position}]"
        image = own.get(_key(note, "image_id"))
        if image is None:
            flaws.append(Flaw(name, None, f"{where} belongs to no readable image"))
            continue
        if isinstance(note.get("caption"), str):
            image.captions.append(note["caption"])
            continue
        label = ids.get(_key(note, "category_id"))
        if label is None:
            flaws.append(Flaw(name, None, f"{where} has the unknown category {note.get('category_id')!r}"))
            continue
        if note.get("bbox") is None:
            image.labels.append(label)
            continue
        box = _box(note["bbox"], left_top_right_bottom, image.size)
        if isinstance(box, str):
            flaws.append(Flaw(name, None, f"{where}: {box}"))
        else:
            image.boxes.append(Box(label, box))
            image.labels.append(label)


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _key(note: Any, name: str) -> int | str | None:
    """An id of an annotation; ``None`` for whatever cannot be one."""
    value = note.get(name) if isinstance(note, dict) else None
    return value if isinstance(value, int | str) else None


def _box(
    value: Any, left_top_right_bottom: bool, size: tuple[float, float] | None
) -> tuple[float, float, float, float] | str:
    """``xyxy`` of a COCO box, cut to the image; a message when it is none."""
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(number, int | float) for number in value)
    if not numbers or not all(abs(number) < 1e7 for number in value):  # NaN fails the comparison
        return f"bbox {value!r} is not four numbers"
    x0, y0, x1, y1 = value if left_top_right_bottom else (*value[:2], value[0] + value[2], value[1] + value[3])
    if size is not None:
        x0, x1 = max(0.0, x0), min(size[0], x1)
        y0, y1 = max(0.0, y0), min(size[1], y1)
    if x1 <= x0 or y1 <= y0:
        return f"bbox {value!r} has no area inside the image"
    return float(x0), float(y0), float(x1), float(y1)
