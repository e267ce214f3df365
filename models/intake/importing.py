"""A user's own ONNX model into the repository: checked, run at two batch sizes, described by a card, written whole."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalog.card import MODEL_NAME, Batching, Card, Licence, OutputKind, Provenance, Task
from models.catalog.catalog import Catalog
from models.catalog.detection import Detection
from models.catalog.geometry import ImageGeometry, fixed_size
from models.catalog.labels import read_labels
from models.catalog.roles import Role
from models.errors import ModelError
from models.intake.presets import preset
from models.progress import Progress, silent
from models.repository.hashing import sha256
from models.repository.ownership import IMPORT, check_name
from models.repository.reading import MODEL, next_version
from models.repository.writer import writing

if TYPE_CHECKING:
    from models.intake.detector_forms import Form
    from models.intake.trial import Trial

MAX_BYTES = 4 << 30
LABELS = "labels.txt"
NMS_IOU = 0.6
"""Of an imported detector whose boxes repeat each other."""
TASKS: tuple[Task, ...] = ("classify", "detect", "embed-image", "tensor")
LABELLED: tuple[Task, ...] = ("classify", "detect")


@dataclass(frozen=True)
class About:
    """What its owner says of the model, for the card.

    ``output`` names the output that counts, ``kind`` what it holds; ``form`` is how a detector's outputs are read.
    ``sizes`` gives free axes by name a size to be tried with. The trial run may take ``trial_seconds`` and
    ``trial_gib`` of memory; absent, 8 and four times the file.
    """

    title: str = ""
    description: str = ""
    licence: str = "LicenseRef-not-stated"
    attribution: str = ""
    output: str | None = None
    kind: OutputKind | None = None
    form: str | None = None
    max_batch_size: int = 16
    sizes: Mapping[str, int] = field(default_factory=dict)
    trial_seconds: float = 120.0
    trial_gib: float | None = None


def import_onnx(
    path: Path,
    name: str,
    task: Task,
    repository: Path,
    *,
    labels: Path | None = None,
    preprocess: str | ImageGeometry | None = None,
    about: About | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Progress = silent,
) -> Card:
    """Import an ONNX file, or a model folder in Triton's layout, as the next version of ``name``.

    ``classify`` and ``detect`` need ``labels`` (a text file, one a line) and ``preprocess``, ``embed-image`` the
    latter; ``tensor`` models are served as they are. Raises :class:`ModelError` that says what is wrong with the file
    and how to export it; then the repository is as it was.
    """
    about = about or About()
    _check_request(name, task, labels, preprocess, about)
    image = preset(preprocess) if isinstance(preprocess, str) else preprocess
    names = read_labels(labels) if labels else ()
    # Here and not above: pulling and listing must work where the package `onnx` is not installed.
    from models.intake.onnx_file import read_onnx
    from models.intake.onnx_run import TrialLimits
    from models.intake.trial import try_out

    progress("check", 0, 3)
    source = _locate(path)
    file = read_onnx(source, max_bytes)
    clash = {MODEL, LABELS, "card.json"} & file.external.keys()
    if clash:
        raise ModelError(f"external data may not be called {', '.join(sorted(clash))}", "save it under another name")
    with writing(repository, name) as held:
        check_name(repository, name, key=None, imported=True)
        progress("run", 1, 3)
        trial = try_out(
            file,
            task,
            held.work,
            image=image,
            classes=len(names),
            output=about.output,
            sizes=about.sizes,
            kind=about.kind,
            limits=TrialLimits(about.trial_seconds, about.trial_gib),
        )
        form = None if task != "detect" or image is None else _form(trial, len(names), image, about.form)
        card = _card(name, next_version(repository, name), task, image, trial, source, about, form)
        files: dict[str, Path | bytes] = {location: held.work / location for location in file.external}
        files[MODEL] = trial.path
        if task in LABELLED:
            files[LABELS] = ("\n".join(names) + "\n").encode()

        progress("write", 2, 3)
        folder = held.write(card, files)
    progress("write", 3, 3)
    return Card.read(folder)


def _check_request(
    name: str, task: Task, labels: Path | None, preprocess: str | ImageGeometry | None, about: About
) -> None:
    if importlib.util.find_spec("onnx") is None:
        raise ModelError(
            "importing a model needs the package onnx", "run `make setup`, or `pip install 'sightline[train]'`"
        )

    if not MODEL_NAME.fullmatch(name):
        raise ModelError(f"model name {name!r} is not allowed", f"a name matches {MODEL_NAME.pattern}")
    if name in Catalog.read().entries:
        raise ModelError(f"the catalog has a model {name!r} of its own", "import yours under another name")
    if task not in TASKS:
        raise ModelError(f"models for {task!r} cannot be imported", f"tasks are {', '.join(TASKS)}")
    if task in LABELLED and labels is None:
        raise ModelError(
            f"a {'classifier' if task == 'classify' else 'detector'} needs its labels",
            "give a text file with one label a line, in the outputs' order",
        )

    if task not in LABELLED and labels is not None:
        raise ModelError(f"labels mean nothing for {task!r}", "leave them out, or import with task classify or detect")
    if task != "classify" and about.kind is not None:
        raise ModelError(f"an output of {about.kind} means nothing for {task!r}", "leave --output-kind out")
    if task != "detect" and about.form is not None:
        raise ModelError(f"the form {about.form!r} means nothing for {task!r}", "leave --form out")
    if task == "tensor" and preprocess is not None:
        raise ModelError("a tensor model takes tensors, not pictures", "leave the preprocessing out")
    if task != "tensor" and preprocess is None:
        raise ModelError(
            f"a model for {task!r} needs its preprocessing",
            "for example yolo-640, yolox-416, detr-800, unit-640 or half-320x240"
            if task == "detect"
            else "for example imagenet-224, clip-224 or unit-224",
        )


def _locate(path: Path) -> Path:
    """The ONNX file itself, or that of the highest version in a folder of Triton's layout."""
    if not path.is_dir():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    versions = [entry for entry in path.iterdir() if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()]
    for version in sorted(versions, key=lambda entry: int(entry.name), reverse=True):
        if (version / MODEL).is_file():
            return version / MODEL
    raise ModelError(f"{path} has no {MODEL}", f"give an ONNX file, or a folder that holds <version>/{MODEL}")


def _form(trial: Trial, classes: int, image: ImageGeometry, name: str | None) -> Form:
    from models.intake.detector_forms import FORMS, Outputs, detector_form

    if name is not None and name not in FORMS:
        raise ModelError(f"there is no form {name!r}", f"forms are {', '.join(FORMS)}")
    size = fixed_size(image) or (image.side, image.side)
    return detector_form(Outputs.of(trial.answers, classes, size), name)


def _roles(task: Task, trial: Trial) -> dict[Role, str]:
    """What its outputs are for: the one that the trial found for the task, and a FocalNet's map, known by its name."""
    roles: dict[Role, str] = {}
    if task == "classify" and trial.output is not None:
        roles["logits"] = trial.output
    if task == "embed-image" and trial.output is not None:
        roles["embedding"] = trial.output
    if any(spec.name == "modulation" for spec in trial.outputs):
        roles["modulation"] = "modulation"
    return roles


def _card(
    name: str,
    version: str,
    task: Task,
    image: ImageGeometry | None,
    trial: Trial,
    source: Path,
    about: About,
    form: Form | None,
) -> Card:
    if image is not None:
        image = image.model_copy(update={"input": trial.inputs[0].name})

    specs = (*trial.inputs, *trial.outputs)
    batched = all(spec.shape[:1] == (-1,) for spec in specs)
    return Card(
        name=name,
        version=version,
        task=task,
        family="imported",
        title=about.title or name,
        description=about.description or f"Imported from {source.name}.",
        inputs=trial.inputs,
        outputs=trial.outputs,
        image=image,
        label_set=LABELS if task in LABELLED else None,
        roles=_roles(task, trial) if form is None else dict(form.roles),
        detection=None if form is None else Detection(nms_iou=None if form.finished else NMS_IOU, decode=form.decode),
        output_kind=trial.kind,
        batching=Batching(max_batch_size=about.max_batch_size if batched else 1),
        licence=Licence(spdx=about.licence, attribution=about.attribution),
        provenance=(Provenance(source=f"{IMPORT}{source.name}", sha256=sha256(source), note=trial.note),),
        limits=("Imported; its quality was not measured here.",),
    )
