"""What the cards of a pre-trained model say: on what, how, and how well it does on pictures it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.catalog.card import Batching, Licence, Measurement, Provenance
from models.catalog.geometry import ImagePreprocess
from models.export.precision import Chosen
from models.unicl.cards import Served
from services.datasets.store import Dataset
from services.pretraining.export import Exported
from services.pretraining.kind import FAMILY, PretrainParameters
from services.pretraining.zero_shot_score import Score

BATCH = 32


@dataclass(frozen=True, slots=True)
class Trained:
    """What was trained: ``scale`` the temperature, ``scores`` by split, the exported towers.

    ``served_scores`` are those of the files where these are not exact.
    """

    parameters: PretrainParameters
    dataset: Dataset
    dataset_sha256: str
    image: ImagePreprocess
    scale: float
    scores: Mapping[str, list[Score]]
    served_scores: Mapping[str, list[Score]]
    exported: Exported


def served(trained: Trained) -> Served:
    """See :func:`models.unicl.cards.cards`."""
    parameters, dataset = trained.parameters, trained.dataset
    return Served(
        name=parameters.name,
        title=f"UniCL of {dataset.name}",
        description=(
            f"UniCL ({parameters.network}, {parameters.image_size} px) trained from nothing on "
            f"{dataset.splits.get('train', 0):,} images of {dataset.name!r}: {parameters.steps:,} batches of "
            f"{parameters.batch_size}, learning rate {parameters.learning_rate:g}, seed {parameters.seed}."
        ),
        image=trained.image,
        scale=trained.scale,
        templates=parameters.templates,
        licence=Licence(spdx="LicenseRef-owner", attribution=f"Trained by its owner on {dataset.name!r}"),
        image_engine=trained.exported.image.engine,
        text_engine=trained.exported.text.engine,
        tower_measured=(_cost(trained.exported.image, trained), _cost(trained.exported.text, trained)),
        image_batching=Batching(max_batch_size=BATCH, max_elements=BATCH * 3 * parameters.image_size**2),
        family=FAMILY,
        provenance=(
            Provenance(
                source=f"dataset:{dataset.id}",
                sha256=trained.dataset_sha256,
            ),
        ),
        measured=tuple(
            _measured(f"{dataset.name} {split}", score, suffix)
            for scores, suffix in ((trained.scores, ""), (trained.served_scores, f" in {trained.exported.precision}"))
            for split, several in scores.items()
            for score in several
        ),
        limits=("Knows the kinds of picture and the words that it was trained on.",),
    )


def _measured(dataset: str, score: Score, suffix: str) -> Measurement:
    return Measurement(
        dataset=dataset,
        metric=score.metric + suffix,
        value=round(score.value, 4),
        n=score.n,
        error=round(math.sqrt(score.value * (1 - score.value) / score.n), 4),
        note=f"guessing gives {score.chance:.3g}",
        source="pre-training",
    )


def _cost(chosen: Chosen, trained: Trained) -> tuple[Measurement, ...]:
    about = {"source": "pre-training", "note": f"What it costs in accuracy, {trained.parameters.name} says"}
    return tuple(one.model_copy(update=about) for one in chosen.measured)
