"""The ``finetune`` kind: a data set and an encoder, or a detector, in; a servable model version out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from models.catalog.card import MODEL_NAME
from models.repository.reading import latest, read_card
from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.finetuning.strategies import names
from services.jobs.kind import JobKind
from services.jobs.services import JobServices
from services.ownership import Owners, Viewer, check_names
from services.runtime.problems import model_not_found

DETECTOR = "detector.safetensors"
"""In the folder of a fine-tuned detector: its network, to be trained further."""

DETECTION_METHODS = ("linear_probe", "full", "lora")
"""Ways to adapt a detector. The others are of encoders."""

FAMILY = "finetuned"
"""The family on the cards of models that this kind makes; no other model may be given a new version by it."""


def _known_method(name: str) -> str:
    if name not in names():
        raise ValueError(f"use one of {', '.join(names())}")
    return name


class FinetuneParameters(BaseModel):
    """What is trained on what, and what the result is called."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataset": "pets", "model": "efficientnet-lite2", "name": "my-pets"}]},
    )

    dataset: str = Field(description="Id or name of one of your data sets", max_length=200)
    model: str = Field(
        "efficientnet-lite2",
        description="The image encoder that is adapted; for a set with boxes the detector",
        max_length=64,
    )
    method: Annotated[str, AfterValidator(_known_method)] = Field(
        "linear_probe", description="How it is adapted", json_schema_extra={"enum": list(names())}
    )
    options: dict[Annotated[str, StringConstraints(max_length=64)], bool | int | float | str] = Field(
        default_factory=dict, max_length=16, description='What the method takes, e.g. `{"rank": 8}` for `lora`'
    )
    name: Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME.pattern}$")] = Field(
        description="The new model; a name of yours that exists gets a new version"
    )
    init: Literal["language", "random"] = Field("language", description="What the head starts from")
    templates: list[Annotated[str, StringConstraints(max_length=1000)]] = Field(
        ["a photo of a {}."], min_length=1, max_length=128, description="For `language`: texts of a class"
    )
    shots: int | None = Field(None, ge=1, le=100_000, description="Images of every class to train on; all when absent")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Searched when absent")
    weight_decay: float | None = Field(None, ge=0, le=1e6, description="Searched when absent")
    search: Literal["reference", "optuna"] | None = Field(
        None, description="How the two are searched; absent: ELEVATER's own for a whole `linear_probe`, else `optuna`"
    )
    trials: int | None = Field(None, ge=1, le=1000, description="At most so many trials of the search")
    minutes: float | None = Field(None, gt=0, le=100_000, description="Time for search and training; all when absent")
    search_epochs: int = Field(10, ge=1, le=1000, description="Epochs of a trial")
    epochs: int = Field(50, ge=1, le=10_000, description="At most; fewer when validation stops improving")
    batch_size: int = Field(64, ge=2, le=4096, description="Images at once; halved where memory runs out")
    encoder_rate: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="The encoder's learning rate as a share of the head's; the method's own if absent",
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="`sgd` has momentum 0.9, as in ELEVATER")
    seed: int = Field(0, ge=0, le=2**31 - 1)


def check(services: JobServices, owner: str, parameters: FinetuneParameters) -> None:
    """Refuse at once what can never work: another key's set or encoder, a task that does not fit, a taken name."""
    try:
        dataset = dataset_store(services.settings, services.engine, services.artifacts).get(owner, parameters.dataset)
    except Problem as problem:
        raise problem.at("/parameters/dataset") from None

    if dataset.task == "detection":
        check_detection(services, owner, parameters.model, parameters.method, bool(parameters.options))
        check_names(services.settings.models_dir, owner, [parameters.name], family=FAMILY)
        return

    if dataset.task not in ("classification", "multilabel"):
        raise Problem(
            Kind.INVALID,
            "dataset-task",
            "The data set has no class labels",
            f"{dataset.name!r} is a {dataset.task} set; adaptation needs classification, multilabel or detection.",
            pointer="/parameters/dataset",
        )

    if len(dataset.classes) < 2:
        raise Problem(
            Kind.INVALID,
            "dataset-classes",
            "The data set has too few classes",
            f"{dataset.name!r} has {len(dataset.classes)}; at least two are needed.",
            pointer="/parameters/dataset",
        )

    check_base(services, owner, parameters.model)
    check_names(services.settings.models_dir, owner, [parameters.name], family=FAMILY)
    if (parameters.learning_rate is None) != (parameters.weight_decay is None):
        raise Problem(
            Kind.INVALID,
            "hyper-parameters",
            "Give both hyper-parameters or none",
            "learning_rate and weight_decay are searched together.",
            pointer="/parameters/learning_rate",
        )


def check_detection(services: JobServices, owner: str, model: str, method: str, options: bool) -> None:
    """Refuse a model that finds no boxes, and a method that no detector here can be adapted by.

    Raises ``model-not-found``, ``model-unsuitable``, ``method-unsuitable`` and ``unknown-option``.
    """
    check_base(services, owner, model)
    if detector_of(services.settings.models_dir, model) is None:
        raise Problem(
            Kind.INVALID,
            "model-unsuitable",
            "The model cannot be trained to detect",
            f"The data set has boxes, and {model!r} keeps no network that finds boxes and can be trained.",
            pointer="/parameters/model",
            remedy="Send nanodet-coco, photo-detect, or a detector that was fine-tuned with full or lora.",
        )
    if method not in DETECTION_METHODS:
        raise Problem(
            Kind.INVALID,
            "method-unsuitable",
            "The method does not fit the detector",
            f"{method} adapts encoders that have attention or adapters behind their branches; NanoDet has neither.",
            pointer="/parameters/method",
            remedy=f"Use one of {', '.join(DETECTION_METHODS)}.",
        )
    if options:
        raise Problem(
            Kind.INVALID,
            "unknown-option",
            "The method has no options for detectors",
            f"{method} takes none where boxes are learned.",
            pointer="/parameters/options",
            remedy="Leave options out.",
        )


def detector_of(models_dir: Path, model: str) -> Path | None:
    """The version folder of the detector that training begins with: of a pipeline, that of its proposals."""
    folder = latest(models_dir, model)
    if folder is None:
        return None
    card = read_card(folder)
    if card.pipeline is not None:
        part = card.pipeline.parts.get("proposals")
        if part is None:
            return None
        own = models_dir / part.name / part.version if part.version else latest(models_dir, part.name)
        return own if own is not None and own.is_dir() else None
    return folder if card.family == "nanodet" or DETECTOR in card.files else None


def check_base(services: JobServices, owner: str, model: str) -> None:
    """Refuse a model that is not there, or is another's. Raises ``model-not-found``."""
    root = services.settings.models_dir
    if not MODEL_NAME.fullmatch(model) or latest(root, model) is None:
        raise model_not_found(model).at("/parameters/model")
    try:
        Owners(root).require(Viewer.of(services.engine, owner), model)
    except Problem as problem:
        raise problem.at("/parameters/model") from None


KIND = JobKind("finetune", "finetune", FinetuneParameters, check=check)
