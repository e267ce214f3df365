"""Does a fine-tuning job of a detector: the photos, a probe or training, AP, export, a new version, live at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.catalog.card import Card
from models.repository.ownership import MadeBy, version_of
from models.repository.reading import read_card
from services.datasets.opening import dataset_store
from services.datasets.samples import Split
from services.datasets.store import Dataset
from services.finetuning.data.splits import choose
from services.finetuning.detection.adapting import Adapted, adapt, passes_of
from services.finetuning.detection.photos import Photos
from services.finetuning.detection.publishing import Trained, publish
from services.finetuning.detection.scoring import score
from services.finetuning.detection.training import Hooks
from services.finetuning.kind import FinetuneParameters, check_detection, detector_of
from services.finetuning.publishing import figures_of
from services.jobs.context import JobContext
from services.media.intake import Limits
from services.metrics.detection import BoxScores
from services.runtime import announce

PACE = 15.0
"""Seconds between checkpoints."""
TESTED: Mapping[Split, str] = {"val": "validation", "test": "test"}


def run(ctx: JobContext[FinetuneParameters], dataset: Dataset) -> Mapping[str, Any]:
    """See :class:`services.finetuning.kind.FinetuneParameters`."""
    made = _made_before(ctx)
    if made is None:
        parameters = ctx.parameters
        check_detection(ctx.services, ctx.owner, parameters.model, parameters.method, bool(parameters.options))
        folder = detector_of(ctx.settings.models_dir, parameters.model)
        assert folder is not None  # `check_detection` looked
        made = _train(ctx, folder, read_card(folder), dataset)
    announce.serve(ctx.settings, ctx.parameters.name)
    version = ctx.settings.models_dir / made.name / made.version
    return {
        "model": made.name,
        "version": made.version,
        "dataset": dataset.id,
        "classes": len(dataset.classes),
        "scores": {f"{one.dataset.rpartition(' ')[2]} {one.metric}": one.value for one in made.measured},
        "note": made.description,
        "fit": figures_of(version),
    }


def _made_before(ctx: JobContext[FinetuneParameters]) -> Card | None:
    """The version that an earlier attempt at this very job wrote."""
    root, name = ctx.settings.models_dir, ctx.parameters.name
    version = version_of(root, name, MadeBy(key=ctx.owner, job=ctx.job_id))
    return None if version is None else read_card(root / name / version)


def _train(ctx: JobContext[FinetuneParameters], folder: Path, base: Card, dataset: Dataset) -> Card:
    parameters, settings = ctx.parameters, ctx.settings
    assert base.image is not None
    store = dataset_store(settings, ctx.services.engine, ctx.services.artifacts)
    with store.open(dataset, settings.cache_dir / "datasets") as package:
        chosen = choose(ctx, package, dataset)
        photos = {
            split: Photos(package, samples, base.image, Limits.of(settings))
            for split, samples in chosen.items()
            if samples
        }
        ctx.step(message="comparing the class names with those that the detector knows")
        begun = time.monotonic()
        adapted = adapt(
            folder,
            base,
            dataset.classes,
            photos["train"],
            method=parameters.method,
            models_dir=settings.models_dir,
            language=parameters.init == "language",
            epochs=parameters.epochs,
            learning_rate=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            batch_size=parameters.batch_size,
            seed=parameters.seed,
            told=_telling(ctx, photos["train"], "looking at the training images"),
            hooks=None if parameters.method == "linear_probe" else _hooks(ctx, len(photos["train"])),
        )
        seconds = time.monotonic() - begun
        scores = _scores(ctx, adapted, dataset, photos)

        samples = photos["train"].samples
        fit = {
            "method": parameters.method,
            "trainable_parameters": adapted.trainable,
            "epochs": adapted.passes,
            "seconds": round(seconds, 1),
            "images": len(samples),
            "seed": parameters.seed,
        }
        boxes = sum(len(stored.sample.boxes) for stored in samples)
        trained = Trained(adapted.detector, scores, len(samples), boxes, fit)

    ctx.step(message="exporting and checking the model")
    return publish(ctx, folder, base, dataset, trained=trained)


def _scores(
    ctx: JobContext[FinetuneParameters], adapted: Adapted, dataset: Dataset, photos: Mapping[Split, Photos]
) -> dict[str, tuple[BoxScores, int]]:
    """AP on the splits that were not trained on, with the number of their images."""
    found = {}
    for split, name in TESTED.items():
        own = photos.get(split)
        if own is not None and any(stored.sample.boxes for stored in own.samples):
            telling = _telling(ctx, own, f"scoring the {name} images")
            found[name] = score(adapted.detector, own, dataset.classes, telling), len(own)
    return found


def _telling(ctx: JobContext[FinetuneParameters], photos: Photos, message: str) -> Callable[[int], None]:
    return lambda done: ctx.step(done, len(photos), message=message)


def _hooks(ctx: JobContext[FinetuneParameters], count: int) -> Hooks:
    """How a training is followed, kept between its passes, and ended when its time is up."""
    parameters = ctx.parameters
    passes = passes_of(count, parameters.epochs)
    kept, spent = _load(ctx)
    begun = saved = time.monotonic()

    def told(number: int, share: float, loss: float) -> None:
        metrics = {"epoch": float(number + 1), "loss": loss} if share == 1 else None
        ctx.step(number, passes, message="training", metrics=metrics)

    def keep(done: int, state: Callable[[], dict[str, Tensor]]) -> None:
        nonlocal saved
        if time.monotonic() - saved < PACE:
            return
        now = {"passes": done, "seconds": spent + time.monotonic() - begun}
        ctx.checkpoint(save({name: one.contiguous() for name, one in state().items()}, {"state": json.dumps(now)}))
        saved = time.monotonic()

    def over() -> bool:
        minutes = parameters.minutes
        return minutes is not None and spent + time.monotonic() - begun > 60 * minutes

    return Hooks(told, keep, kept, over)


def _load(ctx: JobContext[FinetuneParameters]) -> tuple[tuple[int, dict[str, Tensor]] | None, float]:
    """What an earlier attempt kept, and the seconds that it took."""
    saved = ctx.load_checkpoint()
    if saved is None:
        return None, 0.0
    try:
        with safe_open(saved, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, ValueError, KeyError):
        ctx.log("the checkpoint is of another version of the platform: starting over", "warning")
        return None, 0.0
    return (int(state["passes"]), tensors), float(state["seconds"])
