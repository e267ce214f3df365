"""Class folders: ``[split/]class/image``; the folder's name is the class, without a split everything is ``train``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from services.datasets.samples import IMAGE_SUFFIXES, SPLITS, Classes, Flaw, Flaws, Parsed, Sample, Split


def matches(names: list[str]) -> bool:
    return any(len(PurePosixPath(name).parts) >= 2 for name in _images(names))


def read(root: Path, names: list[str]) -> Parsed:
    images = _images(names)
    depth = _common_depth(images)
    flaws = Flaws()
    found: list[tuple[str, Split, str]] = []
    for name in images:
        parts = PurePosixPath(name).parts[depth:]
        split: Split = "train"
        if len(parts) >= 3 and parts[0].lower() in SPLITS:
            split, parts = SPLITS[parts[0].lower()], parts[1:]
        if len(parts) < 2:
            flaws.append(Flaw(name, None, "the image lies in no class folder"))
            continue
        found.append((name, split, parts[0]))
    classes = Classes(sorted({label for _, _, label in found}))
    samples = [Sample(name, split, (classes.names.index(label),)) for name, split, label in found]
    return Parsed("folders", "classification", classes.names, samples, flaws)


def _images(names: list[str]) -> list[str]:
    return [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]


def _common_depth(images: list[str]) -> int:
    """How many leading folders all images share, without eating a split or the class itself."""
    parts = [PurePosixPath(name).parts for name in images]
    depth = 0
    while all(len(own) - depth >= 3 for own in parts):
        heads = {own[depth] for own in parts}
        if len(heads) > 1 or next(iter(heads)).lower() in SPLITS:
            break
        depth += 1
    return depth
