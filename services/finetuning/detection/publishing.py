"""A trained detector to a version that serves: an ONNX graph compared with PyTorch, the network, labels, card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from models.catalog.card import Card, Licence, Measurement, Provenance
from models.catalog.detection import Decode, Detection
from models.nanodet.export import write
from models.nanodet.network import NanoDet
from models.repository.ownership import MadeBy
from models.repository.reading import MODEL, next_version
from models.repository.writer import writing
from services.datasets.store import Dataset
from services.finetuning.detection.network import Probe, save_network
from services.finetuning.kind import DETECTOR, FAMILY, FinetuneParameters
from services.finetuning.publishing import ADAPTER, LABELS
from services.jobs.context import JobContext
from services.metrics.detection import BoxScores
from services.ownership import check_names

THRESHOLD = 0.3


@dataclass(frozen=True, slots=True)
class Trained:
    """``scores`` by split; ``fit`` are the figures that the job's result and report have."""

    detector: NanoDet | Probe
    scores: dict[str, tuple[BoxScores, int]]
    images: int
    boxes: int
    fit: dict[str, Any]


def publish(
    ctx: JobContext[FinetuneParameters], folder: Path, base: Card, dataset: Dataset, *, trained: Trained
) -> Card:
    """Write the version; ``folder`` is that of ``base``. Raises ``model-name-taken`` if another took the name."""
    target = ctx.scratch / MODEL
    write(trained.detector, target)
    files: dict[str, Path | bytes] = {LABELS: "\n".join(dataset.classes).encode(), MODEL: target}
    adapter = ctx.scratch / ADAPTER
    if isinstance(trained.detector, Probe):
        head = {f"head.{name}": tensor.detach() for name, tensor in trained.detector.head.state_dict().items()}
        save_file(head, adapter, {"fit": json.dumps(trained.fit)})
        files[ADAPTER] = adapter
    else:
        save_network(trained.detector, ctx.scratch / DETECTOR, trained.fit)
        save_file({}, adapter, {"fit": json.dumps(trained.fit)})
        files |= {DETECTOR: ctx.scratch / DETECTOR, ADAPTER: adapter}
    if base.licence.file:
        files[base.licence.file] = folder / base.licence.file

    root = ctx.settings.models_dir
    with writing(root, ctx.parameters.name) as held:
        check_names(root, ctx.owner, [ctx.parameters.name], family=FAMILY)
        card = _card(ctx, base, dataset, trained)
        ctx.confirm()
        held.write(card, files, made_by=MadeBy(key=ctx.owner, job=ctx.job_id))
    return card


def _card(ctx: JobContext[FinetuneParameters], base: Card, dataset: Dataset, trained: Trained) -> Card:
    classes = len(dataset.classes)
    outputs = tuple(
        spec.model_copy(update={"shape": (-1, -1, classes)}) if spec.name == base.roles["scores"] else spec
        for spec in base.outputs
    )
    parameters = ctx.parameters
    return Card(
        name=parameters.name,
        version=next_version(ctx.settings.models_dir, parameters.name),
        task="detect",
        family=FAMILY,
        title=f"{dataset.name} on {base.title}",
        description=(
            f"{parameters.method} on {base.name} version {base.version}: {trained.boxes:,} boxes in "
            f"{trained.images:,} images of {dataset.name!r}, {classes} classes, {parameters.init} initialisation, "
            f"{trained.fit['trainable_parameters']:,} parameters, seed {parameters.seed}."
        ),
        inputs=base.inputs,
        outputs=outputs,
        image=base.image,
        label_set=LABELS,
        roles=base.roles,
        detection=Detection(threshold=THRESHOLD, nms_iou=0.6, decode=Decode(layout="separate")),
        batching=base.batching,
        engine=base.engine,
        licence=Licence(spdx=base.licence.spdx, file=base.licence.file, attribution=base.licence.attribution),
        provenance=(
            Provenance(source=f"dataset:{dataset.id}", sha256=ctx.services.artifacts.by_id(dataset.artifact_id).sha256),
            Provenance(source=f"model:{base.name}/{base.version}", sha256=base.files[MODEL]),
        ),
        measured=tuple(_measured(dataset, trained)),
        limits=("Knows only the classes it was trained on.", *base.limits[1:]),
        not_for=base.not_for,
    )


def _measured(dataset: Dataset, trained: Trained) -> list[Measurement]:
    found = []
    for split, (scores, images) in trained.scores.items():
        for metric in ("AP", "AP50"):
            value = scores.statistics[metric]
            if math.isfinite(value) and value >= 0:
                found.append(
                    Measurement(
                        dataset=f"{dataset.name} {split}",
                        metric=metric,
                        value=round(value, 4),
                        n=images,
                        source="fine-tuning",
                    )
                )
    return found
