"""ELEVATER's vision-dataset lists: ``train.txt`` with lines ``train.zip@path label[,label...]`` and ``labels.txt``.

Reference: vision-datasets 0.2.17, the IRIS format. A line is split at its last blank (or tab, for ``.tsv``); labels
are indices into the label map, counted from 0. ``labelmap.txt`` and ``labels.txt`` name one class a line.
Zips inside of the archive are unpacked by the importer into a folder of the zip's own name.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from services.datasets.samples import SPLITS, Flaw, Flaws, Parsed, Sample, Split

LABEL_MAPS = ("labels.txt", "labelmap.txt", "label_map.txt", "classes.txt")


def matches(names: list[str]) -> bool:
    return bool(_lists(names)) and any(PurePosixPath(name).name.lower() in LABEL_MAPS for name in names)


def read(root: Path, names: list[str]) -> Parsed:
    map_name = next(name for name in names if PurePosixPath(name).name.lower() in LABEL_MAPS)
    text = (root / map_name).read_text(encoding="utf-8-sig", errors="replace")
    classes = text.rstrip().splitlines()  # a blank line in between is a class without a name, and keeps its number
    parsed = Parsed("iris", "classification", classes)
    known = set(names)
    for name in _lists(names):
        split = SPLITS[PurePosixPath(name).stem.lower().split("_")[0]]
        lines = (root / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            sample = _sample(name, line, text, split, len(classes), known, parsed.flaws)
            if sample is not None:
                parsed.samples.append(sample)
    if any(len(sample.labels) != 1 for sample in parsed.samples):
        parsed.task = "multilabel"
    return parsed


def _lists(names: list[str]) -> list[str]:
    paths = ((name, PurePosixPath(name)) for name in names)
    return [
        name for name, path in paths
        if path.suffix in (".txt", ".tsv") and path.stem.lower().split("_")[0] in SPLITS
    ]  # fmt: skip


def _sample(
    name: str, line: int, text: str, split: Split, classes: int, known: set[str], flaws: Flaws
) -> Sample | None:
    place, separator, wanted = text.rstrip().rpartition("\t" if "\t" in text else " ")
    if not separator:
        flaws.append(Flaw(name, line, "expected 'path label[,label...]'"))
        return None
    folder = PurePosixPath(name).parent
    inside = place.strip().replace("@", "/")
    path = next((path for path in (str(folder / inside), inside) if path in known), None)
    if path is None:
        flaws.append(Flaw(name, line, f"{place.strip()!r} is not in the archive"))
        return None
    try:
        labels = tuple(sorted({int(label) for label in wanted.split(",")}))
    except ValueError:
        flaws.append(Flaw(name, line, f"{wanted!r} is not a list of class indices"))
        return None
    if not all(0 <= label < classes for label in labels):
        flaws.append(Flaw(name, line, f"class index {wanted} is outside of the {classes} names of the label map"))
        return None
    return Sample(path, split, labels)
