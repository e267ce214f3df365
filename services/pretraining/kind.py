"""The ``pretrain`` kind: a data set of pictures with labels or captions in, an open-vocabulary model version out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.datasets.opening import dataset_store
from services.encoding.templates import fill
from services.errors import Kind, Problem
from services.jobs.kind import JobKind
from services.jobs.services import JobServices
from services.ownership import check_names

FAMILY = "pretrained"
"""The family on the cards of models that this kind makes; no other model may be given a new version by it."""

TOWERS = ("image", "text")
"""A model of this kind is three in the repository: ``NAME``, and the ``NAME-image`` and ``NAME-text`` it is made of."""


class PretrainParameters(BaseModel):
    """What is trained on what, and what the result is called."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"dataset": "stickers", "method": "unicl", "name": "my-stickers"}]},
    )

    dataset: str = Field(
        description="Id or name of one of your data sets: labels, captions, or some of each", max_length=200
    )
    method: Literal["unicl"] = Field(
        "unicl", description="Contrastive, with every picture and text of one label as positives (arXiv 2204.03610)"
    )
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,57}$")] = Field(
        description="The new model; a name of yours that exists gets a new version"
    )
    network: Literal["nano", "tiny", "small", "base"] = Field(
        "tiny", description="How large: `nano` for a trial, `tiny` on processors, `small` and `base` on a GPU"
    )
    image_size: int = Field(64, ge=32, le=384, multiple_of=32, description="Side of the pictures in pixels")
    vocabulary: int = Field(4096, ge=512, le=49_408, description="Ids of the tokenizer that is made of your texts")
    templates: list[Annotated[str, StringConstraints(max_length=1000)]] = Field(
        ["a photo of a {}.", "a picture of a {}.", "{}."],
        min_length=1,
        max_length=128,
        description="A label becomes a text by one of these, chosen anew each time",
    )
    steps: int = Field(2000, ge=1, le=10_000_000, description="Batches to train on")
    batch_size: int = Field(64, ge=2, le=8192, description="Pictures of a batch: each is told from all the others")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="The highest of the schedule")
    weight_decay: float = Field(0.1, ge=0, le=10)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    precision: Literal["fp32", "bf16", "fp16", "int8"] = Field(
        "fp32",
        description="What the model is served in; the card says what it costs. One that it does not bear, or that the "
        "worker lacks the engine for, becomes fp32",
    )


def check(services: JobServices, owner: str, parameters: PretrainParameters) -> None:
    """Refuse at once what can never work: a set of another key, one that does not fit, a name that is taken."""
    try:
        dataset = dataset_store(services.settings, services.engine, services.artifacts).get(owner, parameters.dataset)
    except Problem as problem:
        raise problem.at("/parameters/dataset") from None

    if dataset.task == "detection":
        raise Problem(
            Kind.INVALID,
            "dataset-task",
            "The data set has no texts for whole pictures",
            f"{dataset.name!r} is a detection set; pre-training needs a label or a caption for every picture.",
            pointer="/parameters/dataset",
            remedy="Upload class folders, or a CSV or JSONL with columns image and label or caption.",
        )

    images = dataset.splits.get("train", 0)
    if images < parameters.batch_size:
        raise Problem(
            Kind.INVALID,
            "too-few-images",
            "There are fewer training images than a batch has",
            f"{dataset.name!r} has {images:,} training images; batch_size is {parameters.batch_size:,}.",
            pointer="/parameters/batch_size",
            remedy="Ask for smaller batches, or add images to the training split.",
        )

    if dataset.task == "classification" and sum(1 for count in dataset.counts.values() if count) < 2:
        raise Problem(
            Kind.INVALID,
            "dataset-classes",
            "The data set has too few classes",
            f"All images of {dataset.name!r} have the same label; there is nothing to tell apart.",
            pointer="/parameters/dataset",
            remedy="Add images of other classes, or captions.",
        )

    try:
        fill(("label",), parameters.templates)
    except Problem as problem:
        raise problem.at(f"/parameters{problem.pointer}") from None

    check_names(services.settings.models_dir, owner, names_of(parameters.name), family=FAMILY)


def names_of(name: str) -> tuple[str, ...]:
    """The models that a job makes: the one that is asked for, and its towers."""
    return (name, *(f"{name}-{tower}" for tower in TOWERS))


KIND = JobKind("pretrain", "finetune", PretrainParameters, check=check)
