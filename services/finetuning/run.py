"""Does a fine-tuning job: inputs, search, training, export, check, a new version in the repository, live at once."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.catalog.card import Card
from models.catalog.document import document
from models.encoders import ImageEncoder
from models.repository.ownership import MadeBy, version_of
from models.repository.reading import installed, read_card
from services.datasets.opening import dataset_store
from services.datasets.package import Package
from services.datasets.splits import SplitError
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.finetuning.class_rows import class_rows, language_models
from services.finetuning.data.features import FeatureExtractor
from services.finetuning.data.splits import Splits, as_features, as_pictures, choose
from services.finetuning.detection import run as detection
from services.finetuning.encoders.opening import open_encoder
from services.finetuning.heads.normalisation import fitted_rows
from services.finetuning.heads.recipe import Recipe
from services.finetuning.kind import FinetuneParameters, check_base
from services.finetuning.publishing import ADAPTER, Outcome, figures_of, publish
from services.finetuning.search.choosing import open_search
from services.finetuning.search.grid import REFERENCE_TRIALS
from services.finetuning.strategies.base import checked, strategy
from services.finetuning.training.fitted import Fitted
from services.finetuning.training.fitting import evaluate, fit
from services.finetuning.training.following import Follower
from services.jobs.context import JobContext
from services.media.intake import Limits
from services.runtime import announce
from services.runtime.loaded import components_of
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Backend, ModelHandle

TRIALS_OF_ENCODERS = 8
"""Of a search that trains the encoder each time, unless the request says otherwise."""


@dataclass(frozen=True, slots=True)
class Language:
    """Where a language-aware head starts: the models that must be loaded, and a row for every class."""

    models: tuple[str, ...]
    rows: Callable[[Backend], Awaitable[NDArray[np.float32]]]


def run(
    ctx: JobContext[FinetuneParameters], language: Language | None = None, metric: str | None = None
) -> Mapping[str, Any]:
    """See :class:`services.finetuning.kind.FinetuneParameters`.

    ``language`` in place of the encoder's own open-vocabulary model and the templates, ``metric`` in place of the
    usual one of the task.
    """
    services = ctx.services
    dataset = dataset_store(ctx.settings, services.engine, services.artifacts).get(ctx.owner, ctx.parameters.dataset)
    if dataset.task == "detection":
        return detection.run(ctx, dataset)

    threads = torch.get_num_threads()
    if not strategy(ctx.parameters.method).trains_encoder:
        # Matrices this small are faster on one thread, and other jobs want the cores.
        torch.set_num_threads(1)

    try:
        return asyncio.run(_Finetune(ctx, language, metric).go())
    finally:
        torch.set_num_threads(threads)


class _Finetune:
    def __init__(self, ctx: JobContext[FinetuneParameters], language: Language | None, metric: str | None) -> None:
        self._ctx = ctx
        self._language = language
        self._metric = metric
        self._parameters = ctx.parameters
        services = ctx.services
        self._datasets = dataset_store(ctx.settings, services.engine, services.artifacts)
        self._strategy = strategy(ctx.parameters.method)
        checked(ctx.parameters.method, self._strategy, ctx.parameters.options)

    async def go(self) -> dict[str, Any]:
        ctx, parameters = self._ctx, self._parameters
        dataset = self._datasets.get(ctx.owner, parameters.dataset)
        made = self._made_before()
        if made is None:
            check_base(ctx.services, ctx.owner, parameters.model)
            backend = OnnxBackend(ctx.settings.model_copy(update={"preload": self._needed()}))
            await backend.start()
            try:
                with await backend.resolve(parameters.model) as model:
                    made = await self._train(backend, model, dataset)
            finally:
                await backend.close()

        # Another process may have died between writing the version and this line: telling twice does no harm.
        await asyncio.to_thread(announce.serve, ctx.settings, parameters.name)
        self._report(made)
        return self._result(made, dataset)

    def _needed(self) -> tuple[str, ...]:
        """Name the models this job runs; loading more would cost a worker memory for nothing."""
        encoder = self._parameters.model
        needed = [encoder]

        if self._parameters.init == "language" and self._language is not None:
            needed += self._language.models
        elif self._parameters.init == "language":
            cards = [found.card for found in installed(self._ctx.settings.models_dir) if found.card is not None]
            for card in language_models(cards, encoder):
                needed += [card.name, *components_of(card)]

        return tuple(dict.fromkeys(needed))

    def _made_before(self) -> Card | None:
        """Read the version that an earlier attempt at this very job wrote."""
        root, name = self._ctx.settings.models_dir, self._parameters.name
        version = version_of(root, name, MadeBy(key=self._ctx.owner, job=self._ctx.job_id))
        return None if version is None else read_card(root / name / version)

    async def _train(self, backend: OnnxBackend, model: ModelHandle, dataset: Dataset) -> Card:
        ctx = self._ctx
        folder, base, settings = model.folder, model.card, ctx.settings
        extractor = FeatureExtractor(model, settings.cache_dir / "features", Limits.of(settings))
        encoder = None
        if self._strategy.trains_encoder:
            encoder = await asyncio.to_thread(open_encoder, folder, base, settings.models_dir, settings.cache_dir)

        recipe = self._recipe(dataset)
        with self._datasets.open(dataset, settings.cache_dir / "datasets") as package:
            splits, text = await self._inputs(backend, model, extractor, package, dataset=dataset)

        fitted = await asyncio.to_thread(self._fit, splits, recipe, text, encoder)
        score = math.nan
        if splits.test is not None:
            ctx.step(message="scoring the test images")
            score = await asyncio.to_thread(evaluate, fitted, splits.test, recipe)

        ctx.step(message="exporting and checking the model")
        outcome = Outcome(recipe, fitted, splits, score)
        return await asyncio.to_thread(publish, ctx, folder, base, dataset, outcome=outcome)

    async def _inputs(
        self,
        backend: OnnxBackend,
        model: ModelHandle,
        extractor: FeatureExtractor,
        package: Package,
        *,
        dataset: Dataset,
    ) -> tuple[Splits, torch.Tensor | None]:
        """Make the splits, and the rows that a language-aware head starts from."""
        ctx, parameters = self._ctx, self._parameters
        chosen = choose(ctx, package, dataset)
        sha256 = ctx.services.artifacts.by_id(dataset.artifact_id).sha256
        language = parameters.init == "language"

        features = None
        if not self._strategy.trains_encoder:
            features = await as_features(ctx, package, chosen, extractor, sha256)
        elif language:  # the head's channels are scaled by what the encoder gives before it is trained
            features = await as_features(ctx, package, {"train": chosen["train"]}, extractor, sha256)

        text = None
        if language:
            assert features is not None
            ctx.step(message="embedding the class names")
            if self._language is not None:
                rows = await self._language.rows(backend)
            else:
                rows = await class_rows(backend, model, dataset.classes, parameters.templates)
            text = torch.from_numpy(fitted_rows(rows, features.train.features))

        if features is not None and not self._strategy.trains_encoder:
            return features, text
        return await asyncio.to_thread(as_pictures, ctx, package, chosen, extractor), text

    def _recipe(self, dataset: Dataset) -> Recipe:
        parameters = self._parameters
        trials = parameters.trials
        # The reference's search climbs from the smallest learning rate: cut short it has seen no other.
        few = self._strategy.trains_encoder or (trials or REFERENCE_TRIALS) < REFERENCE_TRIALS
        search = parameters.search or ("optuna" if few else "reference")
        if trials is None and search == "optuna" and self._strategy.trains_encoder:
            trials = TRIALS_OF_ENCODERS

        return Recipe(
            classes=len(dataset.classes),
            multilabel=dataset.task == "multilabel",
            learning_rate=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            seed=parameters.seed,
            epochs=parameters.epochs,
            method=parameters.method,
            options=parameters.options,
            search=search,
            trials=trials,
            seconds=None if parameters.minutes is None else 60 * parameters.minutes,
            search_epochs=parameters.search_epochs,
            batch_size=parameters.batch_size,
            optimizer=parameters.optimizer,
            encoder_rate=parameters.encoder_rate,
            by=self._metric,
        )

    def _fit(self, splits: Splits, recipe: Recipe, text: torch.Tensor | None, encoder: ImageEncoder | None) -> Fitted:
        start = (self._strategy.learning_rate, self._strategy.weight_decay)
        search, most = open_search(recipe.search, recipe.seed, recipe.trials, start)
        search.close()
        hooks = Follower(self._ctx, most).hooks()
        with _as_problems():
            return fit(splits.train, splits.validation, recipe, text, hooks=hooks, encoder=encoder)

    def _report(self, card: Card) -> None:
        """Written by every attempt: one may have died between the version and this."""
        report = {
            "parameters": self._parameters.model_dump(),
            "fit": figures_of(self._folder(card)),
            "card": document(card),
        }
        with self._ctx.artifact("report.json", "application/json") as out:
            out.write(json.dumps(report, indent=1).encode())
        self._ctx.add_file(self._folder(card) / ADAPTER, ADAPTER)

    def _folder(self, card: Card) -> Path:
        return self._ctx.settings.models_dir / card.name / card.version

    def _result(self, card: Card, dataset: Dataset) -> dict[str, Any]:
        return {
            "model": card.name,
            "version": card.version,
            "dataset": dataset.id,
            "classes": len(dataset.classes),
            "scores": {f"{m.dataset.rpartition(' ')[2]} {m.metric}": m.value for m in card.measured},
            "note": card.description,
            "fit": figures_of(self._folder(card)),
        }


@contextmanager
def _as_problems() -> Iterator[None]:
    """Turn what a fit raises into problems that say what to change."""
    try:
        yield
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
