"""What speed/adaptation_table.py measures on: folders of labelled images, and the sets of suite ``pocket``."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.datasets.importing import import_archive
from services.evaluation.protocols import Protocol
from services.evaluation.suites import registry
from services.evaluation.suites.knowledge import ClassKnowledge, read_knowledge
from services.evaluation.suites.preparing import LIMITS, Material, prepare
from services.evaluation.suites.registry import SuiteSet
from services.media.intake import Limits
from services.settings import Settings

CLOTHING = ("a photo of a {}.", "a photo of a {}, a piece of clothing.")
GROCERY = ("a photo of {}.", "a photo of {} in a grocery store.")


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A data set that lies ready. ``shots`` are the numbers of images a class that it can be measured with."""

    name: str
    shots: tuple[int, ...]
    material: Material
    knowledge: Mapping[str, ClassKnowledge]


@dataclass(frozen=True, slots=True)
class _Source:
    """A folder, what it can give a class, and whose texts: its own templates, or those of a set of ``elevater``."""

    folder: str
    shots: tuple[int, ...]
    like: str = ""
    templates: tuple[str, ...] = ()
    hyphens: bool = False
    """Whether the words of a class are joined by hyphens in the names of folders."""


SETS = {
    "eurosat": _Source("eurosat_rgb", (5, 20, 50), like="eurosat_clip"),
    "mnist": _Source("mnist_png", (5, 20, 50), like="mnist"),
    "clothing": _Source("clothing_small", (5, 20, 30), templates=CLOTHING),
    "grocery": _Source("grocery_store", (4,), templates=GROCERY, hyphens=True),
}
POCKET = {
    "digits": (5, 20, 50),
    "faces": (5, 20, 50),
    "textures": (5, 20),
    "pictographs-unseen": (5,),
    "pictographs-seen": (5,),
    "pictograph-categories": (5, 20, 50),
    "flags": (),
}
"""Sets of the suite and how many images a class they can be measured with; its clothing is part of ours."""
NAMES = [*SETS, *POCKET]

PROTOCOLS = {
    "zero-shot-descriptions": Protocol(name="zero-shot-descriptions", knowledge="gpt3"),
    "linear-probe-descriptions": Protocol(
        name="linear-probe-descriptions", method="linear_probe", init="language", knowledge="gpt3"
    ),
    "linear-probe-fixed": Protocol(name="linear-probe-fixed", method="linear_probe"),
    "linear-probe-language-fixed": Protocol(name="linear-probe-language-fixed", method="linear_probe", init="language"),
}
"""Beside those of benchmark jobs: names with the description of the class behind them, for the set that has
descriptions; and probes without a search, at the rates of the strategies that train an encoder."""
FIXED = ("linear-probe-fixed", "linear-probe-language-fixed")


def labelled_set(data: Path, name: str, scratch: Path, settings: Settings) -> LabelledSet:
    """The package of a folder, made once in ``scratch``; names of classes are ELEVATER's, where it has the set."""
    if name in POCKET:
        chosen = registry.suite("pocket")
        [spec] = registry.choose(chosen, (name,))
        return LabelledSet(name, POCKET[name], prepare(chosen, spec, settings, lambda *_: None), {})
    source = SETS[name]
    folder = data / source.folder
    file = scratch / f"{name}.zip"
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    if source.hyphens:
        classes = [_spoken(name) for name in classes]
    if not file.exists():
        archive = scratch / f"{name}.source.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
            for path in sorted(folder.glob("t*/*/*")):  # train and test
                bundle.write(path, path.relative_to(folder))
        import_archive(archive, name, file.with_suffix(".part"), Limits.of(settings), LIMITS)
        file.with_suffix(".part").replace(file)
        archive.unlink()
    spec = SuiteSet(name=name, task="classification", metric="accuracy", classes=tuple(classes))
    if source.like:
        [like] = registry.choose(registry.suite("elevater"), (source.like,))
        spec = spec.model_copy(update={"classes": like.classes, "templates": like.templates})
    else:
        spec = spec.model_copy(update={"templates": source.templates})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return LabelledSet(name, source.shots, Material(spec, file, digest), _knowledge(folder))


def _knowledge(folder: Path) -> dict[str, ClassKnowledge]:
    """What ``class_descriptions.json`` says: one description a class."""
    file = folder / "class_descriptions.json"
    if not file.is_file():
        return {}
    said = {_spoken(entry["fine_class"]): [entry["description"]] for entry in json.loads(file.read_text())}
    return read_knowledge(json.dumps(said), file.name)


def _spoken(name: str) -> str:
    return name.replace("-", " ")
