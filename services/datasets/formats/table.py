"""A table beside the images: ``labels.csv`` or ``.jsonl`` with an image column, and a label, labels or caption column.

Columns (CSV header or JSON keys): ``image``, ``file`` or ``file_name``; ``label``, ``class`` or ``category``;
``labels`` (several, separated by ``|`` in CSV, a list in JSON); ``caption`` or ``text``; ``split`` (optional).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from services.datasets.samples import SPLITS, Classes, Flaw, Flaws, Parsed, Sample, Split

IMAGE = ("image", "file", "file_name", "filename", "path")
LABEL = ("label", "class", "category")
LABELS = ("labels", "classes", "categories")
CAPTION = ("caption", "text")
MAX_LINE_BYTES = 1 << 20
MAX_COLUMNS = 100


def matches(names: list[str]) -> bool:
    return any(name.endswith((".csv", ".jsonl")) for name in names)


def read(root: Path, names: list[str]) -> Parsed:
    parsed = Parsed("table", "classification", [])
    classes, known = Classes(), set(names)
    labelled: list[tuple[str, Split, list[str], list[str]]] = []
    for name in (name for name in names if name.endswith((".csv", ".jsonl"))):
        rows = _csv_rows if name.endswith(".csv") else _jsonl_rows
        for line, row in rows(root / name, name, parsed.flaws):
            sample = _sample(name, line, row, known, parsed.flaws)
            if sample is not None:
                labelled.append(sample)
    for label in sorted({label for _, _, labels, _ in labelled for label in labels}):
        classes.index(label)
    seen: set[str] = set()
    for path, split, labels, captions in labelled:
        if path in seen:
            parsed.flaws.append(Flaw(path, None, "listed twice; the first line stands"))
            continue
        seen.add(path)
        indices = sorted({index for label in labels if (index := classes.index(label)) is not None})
        parsed.samples.append(Sample(path, split, tuple(indices), (), tuple(captions)))
    parsed.classes = classes.names
    if not classes.names:
        parsed.task = "captions"
    elif any(len(sample.labels) != 1 for sample in parsed.samples):
        parsed.task = "multilabel"
    return parsed


def _csv_rows(path: Path, name: str, flaws: Flaws) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if len(reader.fieldnames or ()) > MAX_COLUMNS:
                flaws.append(Flaw(name, 1, f"more than {MAX_COLUMNS} columns"))
                return
            for row in reader:
                yield reader.line_num, {key: value for key, value in row.items() if key}
    except (UnicodeDecodeError, csv.Error) as error:
        flaws.append(Flaw(name, None, f"not a UTF-8 CSV: {error}"))


def _jsonl_rows(path: Path, name: str, flaws: Flaws) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as stream:
        line = 0
        while text := stream.readline(MAX_LINE_BYTES + 1):
            line += 1
            if len(text) > MAX_LINE_BYTES:
                flaws.append(Flaw(name, line, f"longer than {MAX_LINE_BYTES >> 20} MiB; nothing after it was read"))
                return
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                flaws.append(Flaw(name, line, f"not JSON: {error}"))
                continue
            if isinstance(row, dict):
                yield line, row
            else:
                flaws.append(Flaw(name, line, "not a JSON object"))


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    lowered = {key.strip().lower(): value for key, value in row.items()}
    return next((lowered[key] for key in keys if lowered.get(key) not in (None, "")), None)


def _sample(
    name: str, line: int, row: dict[str, Any], known: set[str], flaws: Flaws
) -> tuple[str, Split, list[str], list[str]] | None:
    image = _first(row, IMAGE)
    if not isinstance(image, str):
        flaws.append(Flaw(name, line, f"no image column; expected one of {', '.join(IMAGE)}"))
        return None
    beside = str(PurePosixPath(name).parent / image)
    path = next((path for path in (beside, image) if path in known), None)
    if path is None:
        flaws.append(Flaw(name, line, f"{image!r} is not in the archive"))
        return None
    several, one, caption = _first(row, LABELS), _first(row, LABEL), _first(row, CAPTION)
    if isinstance(several, str):
        several = [part.strip() for part in several.split("|") if part.strip()]
    if several is None:
        several = [] if one is None else [str(one).strip()]
    if not isinstance(several, list) or not all(isinstance(label, str | int) for label in several):
        flaws.append(Flaw(name, line, "labels are not a list of names"))
        return None
    several = [label for label in several if str(label).strip()]  # a blank is no class
    captions = [caption] if isinstance(caption, str) else caption if isinstance(caption, list) else []
    captions = [text for text in captions if str(text).strip()]
    if not several and not captions:
        flaws.append(Flaw(name, line, "neither a label nor a caption"))
        return None
    word = str(_first(row, ("split",)) or "train").lower()
    if word not in SPLITS:
        flaws.append(Flaw(name, line, f"unknown split {word!r}; expected train, val or test"))
        return None
    return path, SPLITS[word], [str(label) for label in several], [str(text) for text in captions]
