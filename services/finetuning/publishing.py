"""A fitted model to a version that serves: one ONNX graph compared with PyTorch, the adapter alone, and the card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from models.catalog.card import Card, Licence, Measurement, Provenance, TensorSpec
from models.catalog.roles import Role
from models.export.head import append_linear_head
from models.export.onnx import Axis, Signature, export, verify
from models.repository.ownership import MadeBy
from models.repository.reading import MODEL, next_version
from models.repository.writer import writing
from services.datasets.store import Dataset
from services.finetuning.data.splits import Splits
from services.finetuning.encoders.adapted import Adapted, save_adapter, served
from services.finetuning.encoders.opening import describe_adapted
from services.finetuning.heads.head import Head
from services.finetuning.heads.recipe import Recipe
from services.finetuning.kind import FAMILY, FinetuneParameters
from services.finetuning.strategies.base import strategy
from services.finetuning.training.fitted import Fitted
from services.jobs.context import JobContext
from services.ownership import check_names

ADAPTER = "adapter.safetensors"
LABELS = "labels.txt"
_BATCH = Axis("batch", 1, 4096)
_SIDES = {2: Axis("height", 32, 4096), 3: Axis("width", 32, 4096)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is published: the fit, on what it was done, and its score on the test split (``nan`` without one)."""

    recipe: Recipe
    fitted: Fitted
    splits: Splits
    test_score: float


def publish(
    ctx: JobContext[FinetuneParameters], folder: Path, base: Card, dataset: Dataset, *, outcome: Outcome
) -> Card:
    """Write the version; ``folder`` is that of ``base``. Raises ``model-name-taken`` if another took the name."""
    fitted = outcome.fitted
    target, adapter = ctx.scratch / MODEL, ctx.scratch / ADAPTER
    files: dict[str, Path | bytes] = {LABELS: "\n".join(dataset.classes).encode(), MODEL: target, ADAPTER: adapter}
    options = dict(fitted.options)
    metadata = {"fit": json.dumps(summary(outcome)), "options": json.dumps(options)}
    if isinstance(fitted.model, Adapted):
        _export(fitted.model, base, target)
        save_adapter(fitted.model, adapter, metadata)
        files["encoder.json"] = describe_adapted(base, outcome.recipe.method, options, ADAPTER)
    else:
        _append(fitted.model, folder / MODEL, base, target, adapter=adapter, metadata=metadata)

    if base.licence.file:
        files[base.licence.file] = folder / base.licence.file

    root = ctx.settings.models_dir
    # Since the job was submitted another may have taken the name, or made the version that was next.
    with writing(root, ctx.parameters.name) as held:
        check_names(root, ctx.owner, [ctx.parameters.name], family=FAMILY)
        card = _card(ctx, base, dataset, outcome)
        ctx.confirm()
        held.write(card, files, made_by=MadeBy(key=ctx.owner, job=ctx.job_id))
    return card


def _export(model: Adapted, base: Card, target: Path) -> None:
    """Export the whole network, with its updates merged; verified against PyTorch at three batch sizes."""
    assert base.square is not None and base.embedding is not None
    kept = tuple(spec.name for spec in _kept(base, model))
    final, _ = served(model, looking=base.modulation in kept)

    free = {0: _BATCH}
    if base.inputs and base.inputs[0].shape[2:] == (-1, -1):
        free |= _SIDES

    signature = Signature((base.square.input,), ("logits", base.embedding, *kept), {base.square.input: free})
    side = base.square.size
    generator = torch.Generator().manual_seed(0)

    def pictures(count: int) -> tuple[torch.Tensor]:
        return (torch.randn(count, 3, side, side, generator=generator),)

    export(final, pictures(3), signature, target)
    verify(final, [pictures(count) for count in (1, 2, 5)], signature, target)


def _append(head: Head, encoder: Path, base: Card, target: Path, *, adapter: Path, metadata: dict[str, str]) -> None:
    """Give the served graph another head, compared with the trained head on the graph's own features."""
    assert base.square is not None and base.embedding is not None
    weight, bias = (np.ascontiguousarray(part.cpu().numpy()) for part in head.folded())
    kept = [spec.name for spec in _kept(base, head)]
    append_linear_head(encoder, base.embedding, weight, bias, target, keep=kept)
    save_file({"head.weight": weight, "head.bias": bias}, adapter, metadata)

    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    side = base.square.size
    images = np.random.default_rng(0).standard_normal((3, 3, side, side)).astype(np.float32)
    logits, features = session.run(["logits", base.embedding], {base.square.input: images})
    with torch.no_grad():
        expected = head.eval()(torch.from_numpy(features)).numpy()

    worst = float(np.abs(logits - expected).max())
    if not worst <= 1e-3 * max(1.0, float(np.abs(expected).max())):  # so that NaN does not pass
        raise RuntimeError(f"the exported model differs from the trained one by {worst:g}")


def _kept(base: Card, model: Head | Adapted) -> list[TensorSpec]:
    """Choose the outputs of ``base`` that its adapted form has too, beside logits and features.

    A graph that gets another head keeps all of them; a network that was trained knows how to make the map alone.
    """
    others = [spec for spec in base.outputs if spec.name not in ("logits", base.logits, base.embedding)]
    if isinstance(model, Head):
        return others
    return [spec for spec in others if spec.name == base.modulation and model.encoder.architecture == "focalnet"]


def _roles(base: Card, kept: list[TensorSpec]) -> dict[Role, str]:
    """Those of ``base`` for the outputs that stay, with the logits of the new head."""
    names = {base.embedding, *(spec.name for spec in kept)}
    return {**{role: name for role, name in base.roles.items() if name in names}, "logits": "logits"}


def figures_of(version: Path) -> dict[str, Any]:
    """Read the :func:`summary` that the adapter of a version folder carries, for the job's result and report."""
    with safe_open(version / ADAPTER, framework="np") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {})["fit"])
    return found


def summary(outcome: Outcome) -> dict[str, Any]:
    """Collect the figures of a fit."""
    fitted = outcome.fitted
    return {
        "method": outcome.recipe.method,
        "trainable_parameters": fitted.trainable,
        "head_parameters": fitted.head_parameters,
        "learning_rate": fitted.learning_rate,
        "weight_decay": fitted.weight_decay,
        "epochs": fitted.epochs,
        "trials": fitted.trials,
        "batch_size": fitted.batch_size,
        "seed": outcome.recipe.seed,
    }


def _measured(dataset: Dataset, outcome: Outcome) -> tuple[Measurement, ...]:
    metric, splits = outcome.recipe.metric, outcome.splits
    found = []
    validation, test = outcome.fitted.validation_score, outcome.test_score
    if not math.isnan(validation):
        found.append(
            Measurement(
                dataset=f"{dataset.name} validation",
                metric=metric,
                value=round(validation, 4),
                n=len(splits.validation) if splits.validation is not None else None,
                note="what settings were chosen on, so a little optimistic",
                source="fine-tuning",
            )
        )

    if splits.test is not None and not math.isnan(test):
        rows, value = len(splits.test), round(test, 4)
        error = round(math.sqrt(max(test * (1 - test), 0.0) / rows), 4) if metric == "accuracy" else None
        found.append(
            Measurement(
                dataset=f"{dataset.name} test", metric=metric, value=value, n=rows, error=error, source="fine-tuning"
            )
        )

    return tuple(found)


def _describe(parameters: FinetuneParameters, base: Card, dataset: Dataset, outcome: Outcome) -> str:
    fitted = outcome.fitted
    what = strategy(parameters.method).summary.lower()
    options = ", ".join(f"{name} {value}" for name, value in fitted.options.items())
    settings = f"learning rate {fitted.learning_rate:.3g}, weight decay {fitted.weight_decay:.3g}"
    return (
        f"{parameters.method} ({what}{'; ' + options if options else ''}) on {base.name} version {base.version}: "
        f"{len(outcome.splits.train)} images of {dataset.name!r} in {len(dataset.classes)} classes, "
        f"{fitted.trainable:,} parameters of the encoder and {fitted.head_parameters:,} of the head, "
        f"{parameters.init} initialisation, {settings}, {fitted.epochs} epochs, batches of {fitted.batch_size}, "
        f"{fitted.trials} trials, seed {parameters.seed}."
    )


def _card(ctx: JobContext[FinetuneParameters], base: Card, dataset: Dataset, outcome: Outcome) -> Card:
    kept = _kept(base, outcome.fitted.model)
    return Card(
        name=ctx.parameters.name,
        version=next_version(ctx.settings.models_dir, ctx.parameters.name),
        task="classify",
        family=FAMILY,
        title=f"{dataset.name} on {base.title}",
        description=_describe(ctx.parameters, base, dataset, outcome),
        inputs=base.inputs,
        outputs=(
            TensorSpec(name="logits", datatype="FP32", shape=(-1, len(dataset.classes))),
            next(spec for spec in base.outputs if spec.name == base.embedding),
            *kept,
        ),
        image=base.image,
        label_set=LABELS,
        roles=_roles(base, kept),
        batching=base.batching,
        engine=base.engine,
        licence=Licence(spdx=base.licence.spdx, file=base.licence.file, attribution=base.licence.attribution),
        provenance=(
            Provenance(
                source=f"dataset:{dataset.id}",
                sha256=ctx.services.artifacts.by_id(dataset.artifact_id).sha256,
            ),
            Provenance(source=f"model:{base.name}/{base.version}", sha256=base.files[MODEL]),
        ),
        measured=_measured(dataset, outcome),
        limits=("Knows only the classes it was trained on.", *base.limits),
    )
