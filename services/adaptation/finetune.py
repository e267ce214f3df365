"""Does a fine-tuning job: features, search, training, export, check, a new version in the repository, live at once."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.catalog.card import Card, Licence, Measurement, Provenance, TensorSpec
from models.export.head import append_linear_head
from models.locking import locked
from models.repository import installed, next_version, write_version
from services.adaptation.class_rows import class_rows, language_models
from services.adaptation.features import FeatureExtractor
from services.adaptation.head import Head
from services.adaptation.linear_probe import Examples, Fitted, Hooks, Recipe, evaluate, fit
from services.adaptation.search import Trial
from services.datasets.opening import dataset_store
from services.datasets.package import Package, Stored
from services.datasets.samples import Split
from services.datasets.splits import SplitError, few_shot, shortages
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.jobs.context import JobContext
from services.jobs.kinds.finetune import FAMILY, FinetuneParameters, check_name, maker_note, note_of
from services.media.intake import Limits
from services.runtime.onnx import OnnxBackend

TRIALS = 90
"""The search tries at most this many settings; progress counts in them."""


def run(ctx: JobContext[FinetuneParameters]) -> Mapping[str, Any]:
    """See :class:`services.jobs.kinds.finetune.FinetuneParameters`."""
    # Matrices this small are faster on one thread, and other jobs want the cores.
    torch.set_num_threads(1)
    return asyncio.run(_Finetune(ctx).go())


@dataclass(slots=True)
class _Splits:
    train: Examples
    validation: Examples | None
    test: Examples | None


class _Finetune:
    def __init__(self, ctx: JobContext[FinetuneParameters]) -> None:
        self._ctx = ctx
        self._parameters = ctx.parameters
        services = ctx.services
        self._datasets = dataset_store(ctx.settings, services.engine, services.artifacts)

    async def go(self) -> dict[str, Any]:
        ctx, parameters = self._ctx, self._parameters
        dataset = self._datasets.get(ctx.owner, parameters.dataset)
        made = self._made_before()
        backend = OnnxBackend(ctx.settings.model_copy(update={"preload": self._needed()}))
        await backend.start()
        try:
            if made is None:
                made = await self._train(backend, dataset)
            # Another process may have died between writing the version and this line: loading twice does no harm.
            await backend.load(parameters.name)
        finally:
            await backend.close()
        self._report(made)
        return self._result(made, dataset)

    def _needed(self) -> tuple[str, ...]:
        """The models this job runs; loading more would cost a worker memory for nothing."""
        encoder = self._parameters.model
        needed = [encoder]
        if self._parameters.init == "language":
            cards = [found.card for found in installed(self._ctx.settings.models_dir) if found.card is not None]
            for card in language_models(cards, encoder):
                assert card.pipeline is not None
                needed += [card.name, *filter(None, (card.pipeline.text_model,))]
        return tuple(dict.fromkeys(needed))

    def _made_before(self) -> Card | None:
        """The version that an earlier attempt at this very job wrote."""
        note = note_of(self._ctx.owner, self._ctx.job_id)
        for found in installed(self._ctx.settings.models_dir):
            if found.name == self._parameters.name and found.card and maker_note(found.card) == note:
                return found.card
        return None

    async def _train(self, backend: OnnxBackend, dataset: Dataset) -> Card:
        ctx, parameters = self._ctx, self._parameters
        extractor = FeatureExtractor(
            backend, parameters.model, ctx.settings.cache_dir / "features", Limits.of(ctx.settings)
        )
        with self._datasets.open(dataset, ctx.settings.cache_dir / "datasets") as package:
            splits = await self._examples(extractor, package, dataset)
        recipe = Recipe(
            classes=len(dataset.classes),
            multilabel=dataset.task == "multilabel",
            learning_rate=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            seed=parameters.seed,
            epochs=parameters.epochs,
        )
        text = None
        if parameters.init == "language":
            ctx.step(message="embedding the class names")
            rows = await class_rows(backend, parameters.model, dataset.classes, parameters.templates)
            text = torch.from_numpy(_scaled(rows, splits.train.features))
        fitted = await asyncio.to_thread(self._fit, splits, recipe, text)
        score = math.nan if splits.test is None else evaluate(fitted.head, splits.test, recipe)
        ctx.step(message="exporting and checking the model")
        return await asyncio.to_thread(
            self._publish, backend.folder(parameters.model), extractor.card, dataset, splits, recipe, fitted, score
        )

    def _fit(self, splits: _Splits, recipe: Recipe, text: torch.Tensor | None) -> Fitted:
        try:
            return fit(splits.train, splits.validation, recipe, text, self._hooks())
        except SplitError as error:
            raise Problem(
                Kind.INVALID,
                "too-few-images",
                "There are too few training images",
                f"{error}.",
                pointer="/parameters/dataset",
                remedy="Add images to the training or validation split.",
            ) from error
        except FloatingPointError as error:
            raise Problem(
                Kind.INVALID,
                "training-diverged",
                "The training diverged",
                f"{error}.",
                pointer="/parameters/learning_rate",
                remedy="Use a smaller learning rate, or leave it out to have one searched.",
            ) from error

    async def _examples(self, extractor: FeatureExtractor, package: Package, dataset: Dataset) -> _Splits:
        chosen: dict[Split, list[Stored]] = {name: package.split(name) for name in ("train", "val", "test")}
        if not chosen["train"]:
            raise Problem(
                Kind.INVALID, "dataset-split", "The data set has no training images", pointer="/parameters/dataset"
            )
        if self._parameters.shots is not None:
            chosen["train"] = self._few(chosen["train"], dataset)
        artifact = self._ctx.services.artifacts.by_id(dataset.artifact_id)
        total, done = sum(map(len, chosen.values())), 0
        found: dict[Split, Examples | None] = {}
        for name, samples in chosen.items():
            if not samples:
                found[name] = None
                continue

            def progress(n: int, _: int, before: int = done) -> None:
                self._ctx.step(before + n, total, message="computing features")

            features = await extractor.extract(package, artifact.sha256, samples, progress)
            if not np.isfinite(features).all():
                raise Problem(
                    Kind.INVALID,
                    "features-not-finite",
                    "The encoder puts out no numbers",
                    f"{self._parameters.model!r} gave NaN or infinity for images of the set.",
                    pointer="/parameters/model",
                )
            found[name] = Examples(features, [stored.sample.labels for stored in samples])
            done += len(samples)
        train = found["train"]
        assert train is not None
        return _Splits(train, found["val"], found["test"])

    def _few(self, samples: list[Stored], dataset: Dataset) -> list[Stored]:
        shots = self._parameters.shots
        assert shots is not None
        labels = [stored.sample.labels for stored in samples]
        short = shortages(labels, len(dataset.classes), shots)
        if short:
            named = ", ".join(f"{dataset.classes[label]!r} ({count})" for label, count in list(short.items())[:5])
            raise Problem(
                Kind.INVALID,
                "too-few-images",
                "Some classes have fewer images than shots",
                f"{shots} shots were asked for; {len(short)} classes have fewer training images: {named}.",
                pointer="/parameters/shots",
                remedy="Ask for fewer shots, or add images.",
            )
        return [samples[index] for index in few_shot(labels, len(dataset.classes), shots, self._parameters.seed)]

    def _hooks(self) -> Hooks:
        """Progress by trial, every trial's score in the checkpoint."""
        ctx = self._ctx
        saved = ctx.load_checkpoint()
        scores: dict[str, float] = json.loads(saved.read_text()) if saved else {}

        def on_trial(trial: Trial, score: float) -> None:
            scores[str(trial.number)] = score
            setting = {"learning_rate": trial.learning_rate, "weight_decay": trial.weight_decay}
            ctx.step(trial.number + 1, TRIALS, message="searching", metrics={"trial_score": score, **setting})
            if trial.number % 10 == 9:
                ctx.checkpoint(json.dumps(scores).encode())

        return Hooks(
            on_trial=on_trial,
            on_epoch=lambda epoch: ctx.step(
                epoch.number,
                self._parameters.epochs,
                message="training",
                metrics={"epoch": epoch.number, "loss": epoch.loss, "validation_score": epoch.metric},
            ),
            stored=lambda trial: scores.get(str(trial.number)),
            between=lambda: ctx.step(),
        )

    def _publish(
        self,
        encoder: Path,
        base: Card,
        dataset: Dataset,
        splits: _Splits,
        recipe: Recipe,
        fitted: Fitted,
        score: float,
    ) -> Card:
        """Write the version: encoder and head in one graph, compared with the head that was trained."""
        ctx, parameters = self._ctx, self._parameters
        assert base.embedding is not None and base.image is not None
        weight, bias = (part.numpy() for part in fitted.head.folded())
        onnx_file = ctx.scratch / "model.onnx"
        append_linear_head(encoder / "model.onnx", base.embedding, weight, bias, onnx_file)
        _compare(onnx_file, base, fitted.head)
        files: dict[str, Path | bytes] = {"model.onnx": onnx_file, "labels.txt": "\n".join(dataset.classes).encode()}
        if base.licence.file:
            files[base.licence.file] = encoder / base.licence.file
        root = ctx.settings.models_dir
        # Since the job was submitted another may have taken the name, or made the version that was next.
        with locked(root / f".{parameters.name}.finetune.lock"):
            check_name(ctx.services, ctx.owner, parameters.name)
            card = _card(ctx, base, dataset, splits, recipe, fitted, score)
            ctx.confirm()
            write_version(root, card, files)
        return card

    def _report(self, card: Card) -> None:
        """Written by every attempt: one may have died between the version and this."""
        report = {"parameters": self._parameters.model_dump(), "card": card.model_dump(mode="json")}
        with self._ctx.artifact("report.json", "application/json") as out:
            out.write(json.dumps(report, indent=1).encode())

    def _result(self, card: Card, dataset: Dataset) -> dict[str, Any]:
        return {
            "model": card.name,
            "version": card.version,
            "dataset": dataset.id,
            "classes": len(dataset.classes),
            "scores": {f"{m.dataset.rpartition(' ')[2]} {m.metric}": m.value for m in card.measured},
            "note": card.description,
        }


def _scaled(rows: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class rows for raw features, made fit for the head's normalised channels and brought to unit length.

    The head divides every channel by its deviation; a row that is to give the same score must be multiplied by it.
    """
    rows = rows * features.std(axis=0)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), np.float32)


def _compare(onnx_file: Path, base: Card, head: Head) -> None:
    """Refuse an export that does not give the trained head's logits on the graph's own features."""
    assert base.image is not None and base.embedding is not None
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    side = base.image.size
    images = np.random.default_rng(0).standard_normal((3, 3, side, side)).astype(np.float32)
    logits, features = session.run(["logits", base.embedding], {base.image.input: images})
    with torch.no_grad():
        expected = head.eval()(torch.from_numpy(features)).numpy()
    worst = float(np.abs(logits - expected).max())
    if not worst <= 1e-3 * max(1.0, float(np.abs(expected).max())):  # so that NaN does not pass
        raise RuntimeError(f"the exported model differs from the trained one by {worst:g}")


def _card(
    ctx: JobContext[FinetuneParameters],
    base: Card,
    dataset: Dataset,
    splits: _Splits,
    recipe: Recipe,
    fitted: Fitted,
    score: float,
) -> Card:
    parameters = ctx.parameters
    job = f"job {ctx.job_id}"
    measured = []
    if not math.isnan(fitted.validation_score):
        rows = len(splits.validation) if splits.validation is not None else None
        measured.append(
            Measurement(
                dataset=f"{dataset.name} validation",
                metric=recipe.metric,
                value=round(fitted.validation_score, 4),
                n=rows,
                note="what settings were chosen on, so a little optimistic",
                source=job,
            )
        )
    if splits.test is not None and not math.isnan(score):
        measured.append(
            Measurement(
                dataset=f"{dataset.name} test",
                metric=recipe.metric,
                value=round(score, 4),
                n=len(splits.test),
                error=round(math.sqrt(max(score * (1 - score), 0.0) / len(splits.test)), 4),
                source=job,
            )
        )
    settings = f"learning rate {fitted.learning_rate:.3g}, weight decay {fitted.weight_decay:.3g}"
    return Card(
        name=parameters.name,
        version=next_version(ctx.settings.models_dir, parameters.name),
        task="classify",
        family=FAMILY,
        title=f"{dataset.name} on {base.title}",
        description=(
            f"Linear probe on {base.name} version {base.version}, {len(splits.train)} images of {dataset.name!r} in "
            f"{len(dataset.classes)} classes, {parameters.init} initialisation, {settings}, {fitted.epochs} epochs, "
            f"{fitted.trials} trials, seed {parameters.seed}."
        ),
        inputs=base.inputs,
        outputs=(
            TensorSpec(name="logits", datatype="FP32", shape=(-1, len(dataset.classes))),
            next(spec for spec in base.outputs if spec.name == base.embedding),
        ),
        image=base.image,
        label_set="labels.txt",
        logits="logits",
        embedding=base.embedding,
        batching=base.batching,
        engine=base.engine,
        licence=Licence(spdx=base.licence.spdx, file=base.licence.file, attribution=base.licence.attribution),
        provenance=(
            Provenance(
                source=f"dataset:{dataset.id}",
                sha256=ctx.services.artifacts.by_id(dataset.artifact_id).sha256,
                note=note_of(ctx.owner, ctx.job_id),
            ),
            Provenance(source=f"model:{base.name}/{base.version}", sha256=base.files["model.onnx"]),
        ),
        measured=tuple(measured),
        limits=("Knows only the classes it was trained on.", *base.limits),
    )
