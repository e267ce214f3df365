"""The splits of a data set as a fit takes them: features of the served encoder, or pictures for its network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.datasets.package import Package, Stored
from services.datasets.samples import Split
from services.datasets.splits import few_shot, shortages
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.finetuning.data.examples import Examples
from services.finetuning.data.features import FeatureExtractor
from services.finetuning.data.pictures import Pictures
from services.finetuning.kind import FinetuneParameters
from services.jobs.context import JobContext
from services.media.intake import Limits

Chosen = dict[Split, list[Stored]]
SHOWN = 5


@dataclass(slots=True)
class Splits:
    """Inputs and labels; ``validation`` and ``test`` only where the set has them."""

    train: Examples
    validation: Examples | None
    test: Examples | None


def choose(ctx: JobContext[FinetuneParameters], package: Package, dataset: Dataset) -> Chosen:
    """The samples of every split, few of them where shots were asked for; those are all that is learnt from then.

    Raises ``dataset-split`` without training images and ``too-few-images`` where a class has fewer than the shots.
    What is odd but no reason to stop goes to the job's log.
    """
    chosen: Chosen = {name: package.split(name) for name in ("train", "val", "test")}
    if dataset.task == "classification":
        for name, samples in chosen.items():
            labelled = [stored for stored in samples if stored.sample.labels]
            if len(labelled) < len(samples):
                ctx.log(f"{len(samples) - len(labelled)} {name} images have no label and are left out", "warning")
            chosen[name] = labelled

    if not chosen["train"]:
        raise Problem(
            Kind.INVALID,
            "dataset-split",
            "The data set has no training images",
            f"{dataset.name!r} has {', '.join(name for name in chosen if chosen[name]) or 'no'} images only.",
            pointer="/parameters/dataset",
            remedy='Import it with a "train" split.',
        )

    if ctx.parameters.shots is not None:
        chosen["train"] = _few(chosen["train"], dataset, ctx.parameters.shots, ctx.parameters.seed)
        chosen["val"] = []

    _tell_of_small_classes(ctx, chosen, dataset)
    return chosen


def _few(samples: list[Stored], dataset: Dataset, shots: int, seed: int) -> list[Stored]:
    labels = [stored.sample.labels for stored in samples]
    short = shortages(labels, len(dataset.classes), shots)
    if short:
        named = ", ".join(f"{dataset.classes[label]!r} ({count})" for label, count in list(short.items())[:SHOWN])
        raise Problem(
            Kind.INVALID,
            "too-few-images",
            "Some classes have fewer images than shots",
            f"{shots} shots were asked for; {len(short)} classes have fewer training images: {named}.",
            pointer="/parameters/shots",
            remedy="Ask for fewer shots, or add images.",
        )
    return [samples[index] for index in few_shot(labels, len(dataset.classes), shots, seed)]


def _tell_of_small_classes(ctx: JobContext[FinetuneParameters], chosen: Chosen, dataset: Dataset) -> None:
    counts = Counter(label for stored in chosen["train"] for label in stored.sample.labels)
    for number, what in (
        (0, "no training image: the model cannot learn them"),
        (1, "one training image: while settings are chosen it validates, only the last training learns from it"),
    ):
        names = [name for label, name in enumerate(dataset.classes) if counts[label] == number]
        if names and not (number == 1 and chosen["val"]):
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            ctx.log(f"{', '.join(names[:SHOWN])}{rest}: {what}", "warning")


def as_pictures(
    ctx: JobContext[FinetuneParameters], package: Package, chosen: Chosen, extractor: FeatureExtractor
) -> Splits:
    """Every split decoded and cropped once, into files of this attempt."""
    spec = extractor.card.square
    assert spec is not None
    limits = Limits.of(ctx.settings)
    total, done = sum(map(len, chosen.values())), 0

    def collect(name: Split) -> Examples | None:
        nonlocal done
        samples, before = chosen[name], done
        if not samples:
            return None
        pictures = Pictures.collect(
            (package.read(stored) for stored in samples),
            spec,
            Path(ctx.scratch) / f"{name}.pixels",
            limits,
            lambda n: ctx.step(before + n, total, message="decoding images"),
        )
        done += len(samples)
        return Examples(pictures, [stored.sample.labels for stored in samples])

    train = collect("train")
    assert train is not None
    return Splits(train, collect("val"), collect("test"))


async def as_features(
    ctx: JobContext[FinetuneParameters], package: Package, chosen: Chosen, extractor: FeatureExtractor, sha256: str
) -> Splits:
    """Every split through the served encoder; raises ``features-not-finite`` where that gives no numbers."""
    total, done = sum(map(len, chosen.values())), 0
    found: dict[Split, Examples | None] = {}
    for name, samples in chosen.items():
        found[name] = None
        if samples:
            found[name] = await _features(
                ctx, package, samples, extractor, sha256, _telling(ctx, done, total, "computing features")
            )
            done += len(samples)

    train = found["train"]
    assert train is not None
    return Splits(train, found.get("val"), found.get("test"))


def _telling(ctx: JobContext[FinetuneParameters], before: int, total: int, message: str) -> Callable[[int, int], None]:
    return lambda n, _: ctx.step(before + n, total, message=message)


async def _features(
    ctx: JobContext[FinetuneParameters],
    package: Package,
    samples: list[Stored],
    extractor: FeatureExtractor,
    sha256: str,
    progress: Callable[[int, int], None],
) -> Examples:
    features = await extractor.extract(package, sha256, samples, progress)
    if not np.isfinite(features).all():
        raise Problem(
            Kind.INVALID,
            "features-not-finite",
            "The encoder puts out no numbers",
            f"{ctx.parameters.model!r} gave NaN or infinity for images of the set.",
            pointer="/parameters/model",
        )

    return Examples(features, [stored.sample.labels for stored in samples])
