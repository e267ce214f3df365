"""Tables beside the images: csv, tsv or jsonl (one for all, one a split, one in each folder), a row an image or object.

Columns (a header, or JSON keys; any case, blanks and hyphens as underscores): ``image``, ``file``, ``file_name``,
``filename`` or ``path``; ``label``, ``class`` or ``category``; ``labels`` (several: separated by ``|`` or ``;``, a list
in JSON); ``caption`` or ``text``; ``split``; boxes as ``xmin, ymin, xmax, ymax``, or in JSON as Hugging Face has them:
``objects`` with ``bbox`` (``x, y, w, h``) and ``categories``. Without a column ``split`` the table's name says it
(``train.csv``), then its folder, then the image's folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from services.datasets.formats.boxes import XYXY, cut, numbers, xyxy_of_coco
from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, Unreadable
from services.datasets.samples import (
    SPLITS,
    Box,
    Classes,
    Flaw,
    Parsed,
    Sample,
    Split,
    folder_split,
    named_split,
    task_of,
)

NAME = "table"
IMAGE = ("image", "file", "file_name", "filename", "path", "image_path", "image_id", "filepath")
LABEL = ("label", "class", "category", "class_name", "label_name")
LABELS = ("labels", "classes", "categories", "tags")
CAPTION = ("caption", "text", "captions", "description")
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x0", "y0", "x1", "y1"))
MAX_LINE_BYTES = 1 << 20
MAX_COLUMNS = 100
_SEPARATORS = ",;\t|"
_TRIED = 200


class Wrong(Exception):
    """A row cannot be used; the text says why."""


def fit(listing: Listing) -> Fit | None:
    """Count how many of the first rows of each table name an image of the upload."""
    best: Fit | None = None
    for name in _tables(listing):
        rows = found = 0
        for _, row in _rows(listing, name, Parsed(NAME, "classification", [])):
            image = _first(row, IMAGE)
            rows += 1
            found += isinstance(image, str) and _find(listing, image, name) is not None
            if rows == _TRIED:
                break

        if found and (best is None or share(found, rows) > best.score):
            best = Fit(share(found, rows), f"{name}: {found} of its first {rows} rows name an image")
    return best


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "classification", [])
    rows: dict[str, _Row] = {}
    for name in _tables(listing):
        if named_split(name) is None and not _names_images(listing, name):
            continue  # a table of something else
        for line, values in _rows(listing, name, parsed):
            parsed.count()
            try:
                row = _read_row(listing, name, values)
            except Wrong as error:
                parsed.lose(name, line, str(error), reason="rows that cannot be used")
                parsed.see_split(named_split(name))
                continue

            known = rows.setdefault(row.path, row)
            if known is not row and not known.join(row):
                parsed.lose(
                    name, line, f"{row.path} is listed twice; the first line stands", reason="images listed twice"
                )

        if name not in parsed.flaws.files:
            parsed.label_files.append(name)
        else:  # a table that cannot be read: what it would have been is lost
            parsed.see_split(named_split(name))

    classes = Classes(sorted(set(chain.from_iterable(row.names() for row in rows.values()))))
    parsed.classes = classes.names
    for row in rows.values():
        sample = row.sample(classes)
        parsed.split_seen[sample.split] += 1
        parsed.class_seen.update(sample.labels)
        parsed.samples.append(sample)
    parsed.task = task_of(parsed.samples, len(parsed.classes))
    return parsed


@dataclass(slots=True)
class _Row:
    """What the rows of one image say."""

    path: str
    split: Split
    labels: list[str]
    captions: list[str]
    boxes: list[tuple[str, XYXY]] = field(default_factory=list)
    frame: tuple[float, float] | None = None
    rows: int = 1

    def join(self, other: _Row) -> bool:
        """Take what another row says of the same image; false where it can only be a repetition."""
        if other.boxes and self.boxes and other.split == self.split:
            self.boxes += other.boxes
        elif not other.boxes and not other.labels and other.captions:
            self.captions += other.captions
        else:
            return False
        self.rows += 1
        return True

    def names(self) -> Iterator[str]:
        yield from self.labels
        yield from (label for label, _ in self.boxes)

    def sample(self, classes: Classes) -> Sample:
        indices = {index for label in self.names() if (index := classes.index(label)) is not None}
        boxes = tuple(Box(classes.index(label) or 0, box) for label, box in self.boxes)
        captions = tuple(self.captions)
        return Sample(
            self.path, self.split, tuple(sorted(indices)), boxes, captions, frame=self.frame, annotations=self.rows
        )


def _tables(listing: Listing) -> list[str]:
    return listing.suffixed(".csv", ".tsv", ".jsonl", ".ndjson")


def _names_images(listing: Listing, name: str) -> bool:
    """Return whether any of the first rows has a column of images; a table that cannot be read may have one."""
    ignored = Parsed(NAME, "classification", [])
    first = [row for _, (_, row) in zip(range(_TRIED), _rows(listing, name, ignored), strict=False)]
    return bool(ignored.flaws) or any(key in row for row in first for key in IMAGE)


def _rows(listing: Listing, name: str, parsed: Parsed) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = listing.text(name)
    except Unreadable as error:
        parsed.flaws.append(Flaw(name, None, str(error)))
        return
    read_rows = _json_rows if name.lower().endswith(("jsonl", "ndjson")) else _csv_rows
    yield from read_rows(text, name, parsed)


def _csv_rows(text: str, name: str, parsed: Parsed) -> Iterator[tuple[int, dict[str, Any]]]:
    header = text.partition("\n")[0]
    if len(header) > MAX_LINE_BYTES:
        parsed.flaws.append(Flaw(name, 1, f"longer than {MAX_LINE_BYTES >> 20} MiB; nothing of it was read"))
        return

    separator = max(_SEPARATORS, key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        if len(reader.fieldnames or ()) > MAX_COLUMNS:
            parsed.flaws.append(Flaw(name, 1, f"more than {MAX_COLUMNS} columns"))
            return
        for row in reader:
            yield reader.line_num, {_key(key): value for key, value in row.items() if key}
    except csv.Error as error:
        parsed.flaws.append(Flaw(name, None, f"not a CSV: {error}"))


def _json_rows(text: str, name: str, parsed: Parsed) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if len(line) > MAX_LINE_BYTES:
            parsed.lose(name, number, f"longer than {MAX_LINE_BYTES >> 20} MiB", reason="lines that are too long")
            continue
        if not line.strip():
            continue

        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            parsed.count()
            parsed.lose(name, number, f"not JSON: {error}", reason="lines that are not JSON")
            continue

        if isinstance(row, dict):
            yield number, {_key(key): value for key, value in row.items()}
        else:
            parsed.count()
            parsed.lose(name, number, "not a JSON object", reason="lines that are not JSON")


def _key(header: str) -> str:
    return header.strip().lower().replace(" ", "_").replace("-", "_")


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), None)


def _find(listing: Listing, image: str, name: str) -> str | None:
    found = listing.find(image, beside=name, split=named_split(name))
    if found is None and not PurePosixPath(image).suffix:  # ids without a suffix, as Kaggle's tables have them
        folder = PurePosixPath(name).parent
        same = [*listing.with_stem(str(folder / image)), *listing.with_stem(str(PurePosixPath(image)))]
        found = same[0] if same else None
    return found


def _read_row(listing: Listing, name: str, row: dict[str, Any]) -> _Row:
    image = _first(row, IMAGE)
    if not isinstance(image, str):
        raise Wrong(f"no image column; expected one of {', '.join(IMAGE[:5])}, found {', '.join(list(row)[:8])}")
    path = _find(listing, image, name)
    if path is None:
        raise Wrong(f"{image!r} is not in the archive")

    labels, captions, boxes = _labels(row), _captions(row), _boxes(row)
    if boxes:
        labels = []
    if not labels and not captions and not boxes:
        raise Wrong("neither a label nor a caption")

    size = numbers([_number(row.get("width")), _number(row.get("height"))], 2) if boxes else None
    frame = (size[0], size[1]) if size is not None and min(size) > 0 else None
    return _Row(path, _split(row, name, path), labels, captions, boxes, frame)


def _labels(row: dict[str, Any]) -> list[str]:
    several, one = _first(row, LABELS), _first(row, LABEL)
    if isinstance(several, str):
        several = [part.strip() for part in several.replace(";", "|").split("|")]
    if several is None:
        several = one if isinstance(one, list) else [] if one is None else [one]
    if not isinstance(several, list) or not all(isinstance(label, str | int | float) for label in several):
        raise Wrong("labels are not a list of names")
    return [str(label).strip() for label in several if str(label).strip()]  # a blank is no class


def _captions(row: dict[str, Any]) -> list[str]:
    found = _first(row, CAPTION)
    captions = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return [str(text) for text in captions if str(text).strip()]


def _boxes(row: dict[str, Any]) -> list[tuple[str, XYXY]]:
    objects = row.get("objects")
    if isinstance(objects, dict):
        places, names = objects.get("bbox"), _first(objects, ("categories", "category", "label", "labels"))
        if not isinstance(places, list) or not isinstance(names, list) or len(places) != len(names):
            raise Wrong("objects has no bbox and categories of one length")
        pairs = zip(names, places, strict=True)
        return [(str(label), _sound(xyxy_of_coco(box, corners=False, size=None))) for label, box in pairs]

    for keys in CORNERS:
        if all(row.get(key) not in (None, "") for key in keys):
            sides = numbers([_number(row[key]) for key in keys], 4)
            if sides is None:
                raise Wrong(f"{', '.join(keys)} are not four numbers")
            label = _first(row, LABEL)
            if label is None:
                raise Wrong("a box without a label")
            return [(str(label).strip(), _sound(cut((*sides[:2], *sides[2:]), None, shown="the box")))]  # type: ignore[arg-type]

    return []


def _sound(box: XYXY | str) -> XYXY:
    if isinstance(box, str):
        raise Wrong(box)
    return box


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _split(row: dict[str, Any], name: str, path: str) -> Split:
    said = _first(row, ("split", "set", "subset"))
    if said is None:
        return named_split(name) or folder_split(path) or "train"
    word = str(said).strip().lower()
    if word not in SPLITS:
        raise Wrong(f"unknown split {said!r}; expected train, val or test")
    return SPLITS[word]
