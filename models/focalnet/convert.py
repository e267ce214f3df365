"""A published FocalNet checkpoint to a served classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.catalog.card import Card, Measurement, TensorSpec
from models.catalog.labels import label_set
from models.encoders import encoder_files, encoder_of
from models.export.accuracy import cost, first_outputs
from models.export.precision import Chosen, answers
from models.focalnet.checkpoint import first_thousand, read
from models.focalnet.export import CLASSIFIER, serve_classifier
from models.focalnet.variants import VARIANTS
from models.intake.checkpoint import CheckpointError
from models.intake.conversion import Job, Version, exported
from models.repository.reading import MODEL

LABELS = "labels.txt"


def convert(job: Job) -> Iterator[Version]:
    """One model: logits, pooled features and modulation map. Raises :class:`models.errors.ModelError`."""
    flags: dict[str, Any] = job.release.flags
    config = replace(VARIANTS[job.release.variant], **flags)
    job.progress("read weights", 0, 3)
    network = read(job.file, config)
    if job.labels and len(job.labels) != config.num_classes:
        raise CheckpointError(
            f"the checkpoint has {config.num_classes:,} classes and there are {len(job.labels):,} labels",
            "Give one label for every output, in the order of the head."
            if len(job.labels) != 1000
            else "Leave the labels out: the head is then cut to ImageNet-1K.",
        )

    if config.num_classes > 1000 and not job.labels:
        network = first_thousand(network)

    job.progress("export and verify", 1, 3)
    target = job.scratch / MODEL
    chosen = serve_classifier(network, target, job.release.image.size, job.precision)
    accuracy = _accuracy(job, chosen, target)
    job.progress("write", 2, 3)
    classes = len(job.labels) or 1000
    card = Card(
        name=job.name,
        task="classify",
        family="focalnet",
        title=job.release.title,
        description=(
            f"Focal Modulation Network ({job.release.paper}), trained on {job.release.trained_on}. Besides logits it "
            "gives pooled features, for linear probes, and its modulation map, which shows where it looked."
        ),
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 3, -1, -1)),),
        outputs=(
            TensorSpec(name="logits", datatype="FP32", shape=(-1, classes)),
            TensorSpec(name="embedding", datatype="FP32", shape=(-1, network.dim_out)),
            TensorSpec(name="modulation", datatype="FP32", shape=(-1, -1, -1)),
        ),
        image=job.image,
        label_set=LABELS if job.labels else "imagenet-1k",
        roles={"logits": "logits", "embedding": "embedding", "modulation": "modulation"},
        batching=job.batching,
        engine=chosen.engine,
        licence=job.release.licence,
        provenance=job.provenance,
        measured=(*job.measured, *chosen.measured, *accuracy),
        limits=(
            "It gives one of its classes to every picture, whatever it shows.",
            "Made for photos with one main object.",
            *(
                ("One class of ImageNet-1K, teddy, was not among its training classes.",)
                if not job.labels and config.num_classes > 1000
                else ()
            ),
        ),
        not_for=("Identifying or judging people",),
    )
    files = {**exported(chosen.file), **encoder_files(encoder_of(network), job.scratch)}
    yield Version(card, {**files, LABELS: "\n".join(job.labels).encode() + b"\n"} if job.labels else files)


def _accuracy(job: Job, chosen: Chosen, exact: Path) -> tuple[Measurement, ...]:
    if job.pictures is None:
        return ()
    truth = job.pictures.truth_in(job.labels or label_set("imagenet-1k"))
    before, served = first_outputs(answers(chosen, exact, CLASSIFIER), job.pictures, job.image)
    return cost(chosen.engine.precision, before, served, truth, job.pictures)
