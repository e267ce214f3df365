"""From a reference to data that can be measured on: a package of images, and what the suite says of it."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.repository.locking import locked
from services.datasets.archive import ArchiveLimits
from services.datasets.importing import import_archive
from services.datasets.package import Package
from services.errors import Kind, Problem
from services.evaluation.suites import builtin, pictographs
from services.evaluation.suites.fetching import Follow, bring
from services.evaluation.suites.knowledge import ClassKnowledge, read_knowledge
from services.evaluation.suites.registry import Builtin, Example, Pictographs, Published, Suite, SuiteSet
from services.evaluation.tasks import TASKS
from services.media.intake import Limits
from services.settings import Settings

LIMITS = ArchiveLimits(max_entries=2_000_000, max_total_bytes=400 << 30, max_ratio=1000.0)
"""A published set is large, and the files were named by the suite."""
SHOWN = 5
"""Flaws that a message names."""
EXAMPLES = Path(__file__).parents[3] / "examples" / "data"


@dataclass(frozen=True, slots=True)
class Material:
    """A data set that lies ready: what the suite says of it, and the package file."""

    spec: SuiteSet
    file: Path
    sha256: str

    @contextmanager
    def open(self) -> Iterator[Package]:
        with Package(self.file) as opened:
            yield opened


def prepare(chosen: Suite, spec: SuiteSet, settings: Settings, follow: Follow) -> Material:
    """Bring a suite's data set, its package made once. Raises ``suite-*``, and what imports raise."""
    task = TASKS[spec.task]
    if task.not_run:
        raise Problem(
            Kind.INVALID,
            "suite-task",
            f"{task.name.capitalize()} sets are not run by this kind of job",
            f"{spec.name!r} of {chosen.name!r} {task.not_run}.",
            pointer="/parameters/datasets",
            remedy=task.instead,
        )

    assert spec.source is not None
    cache = settings.cache_dir / "suites"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]
    file = cache / f"{chosen.name}.{spec.name}.{key}.zip"
    with locked(cache / f".{chosen.name}.{spec.name}.lock"):
        if not file.exists():
            _make(chosen, spec, settings, file, follow=follow)
    with file.open("rb") as source:
        return Material(spec, file, hashlib.file_digest(source, "sha256").hexdigest())


def suite_knowledge(chosen: Suite, spec: SuiteSet, settings: Settings, follow: Follow) -> dict[str, ClassKnowledge]:
    """Collect everything that the suite's knowledge files say of the classes of ``spec``."""
    folder = settings.suites_dir / chosen.name / "knowledge"
    found: dict[str, ClassKnowledge] = {}
    for kind, name in (("external", spec.knowledge.external), ("gpt3", spec.knowledge.gpt3)):
        if name is None:
            continue
        base = f"{chosen.knowledge_address or ''}/{kind}"
        [file] = bring(folder, base, [name], {}, settings.suite_token, follow)
        for known, said in read_knowledge(file.read_bytes(), str(file)).items():
            found[known] = found.get(known, ClassKnowledge()).joined(said)

    if not found:
        raise Problem(
            Kind.INVALID,
            "knowledge-missing",
            "There is no knowledge of the classes",
            f"{chosen.name}/{spec.name} names no knowledge file.",
            pointer="/parameters/protocols",
            remedy="Send 'knowledge' with the job, or leave out protocols that ask for it.",
        )
    return found


def _make(chosen: Suite, spec: SuiteSet, settings: Settings, into: Path, *, follow: Follow) -> None:
    partial = into.with_suffix(".part")
    partial.unlink(missing_ok=True)

    match spec.source:
        case Builtin(maker=maker):
            builtin.make(spec, maker, partial)
        case Pictographs() as source:
            builtin.write(spec, pictographs.drawings(spec, source, settings.sets_dir), partial)
        case Example(file=name):
            _import(_example(name), spec, settings, partial)
        case Published() as source:
            folder = settings.suites_dir / chosen.name / spec.name
            base = "/".join(filter(None, ((chosen.address or "").rstrip("/"), source.folder)))
            files = bring(folder, base, source.names, source.sha256, settings.suite_token, follow)
            with tempfile.TemporaryDirectory(prefix="published-", dir=into.parent) as scratch:
                archive = Path(scratch) / "set.zip"
                _bundle(archive, files, source, spec)
                _import(archive, spec, settings, partial)

    partial.replace(into)


def _bundle(archive: Path, files: list[Path], source: Published, spec: SuiteSet) -> None:
    """Write what was published as one archive that imports can read: lists named by their split, and the label map."""
    splits = {own.index: split for split, own in source.files.items()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for file in files:
            split = splits.get(file.name)
            bundle.write(file, f"{split}{file.suffix}" if split else file.name)
        if source.layout == "iris":
            bundle.writestr("labels.txt", "\n".join(spec.classes))


def _import(archive: Path, spec: SuiteSet, settings: Settings, into: Path) -> None:
    imported = import_archive(archive, spec.name, into, Limits.of(settings), LIMITS, allow_losses=True)
    # Lines of lists that could not be taken: left out, they would make another data set of the same name.
    wrong = [f"{flaw.file}, line {flaw.line}: {flaw.message}" for flaw in imported.flaws if flaw.line is not None]
    if not wrong and spec.task == "classification" and imported.task == "multilabel":
        wrong = ["images with several labels or none, where each is to have one"]

    if wrong:
        into.unlink(missing_ok=True)
        flaws = f"{spec.name!r} has {len(wrong):,} flaws: {'; '.join(wrong[:SHOWN])}."
        raise _mislabelled("The data set is not what the suite says of it", flaws)

    if imported.format != "iris" and len(imported.classes) != len(spec.classes):
        into.unlink(missing_ok=True)
        strange = [name for name in imported.classes if name not in spec.classes][:SHOWN]
        raise _mislabelled(
            "The data set has labels that the suite does not know",
            f"{spec.name!r} has {len(imported.classes)} classes where the suite lists {len(spec.classes)}; "
            f"unknown among them: {', '.join(map(repr, strange)) or 'none'}.",
        )


def _mislabelled(title: str, detail: str) -> Problem:
    remedy = "Fetch the version of the data set that the suite names, or correct the suite's classes."
    return Problem(Kind.INVALID, "suite-labels", title, detail, remedy=remedy)


def _example(name: str) -> Path:
    file = EXAMPLES / name
    if not file.is_file():
        raise Problem(
            Kind.INVALID,
            "suite-data-missing",
            "The data set is not on this machine",
            f"{name} belongs to the source tree, which an installed package is without.",
            remedy=f"Put examples/data/{name} of the source tree at {file}, or leave the data set out.",
        )
    return file
