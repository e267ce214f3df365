"""The models behind the names that a job gives. The gateway asks before a job is accepted: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import Card
from models.repository.reading import installed
from services.errors import Kind, Problem
from services.finetuning.class_rows import language_models
from services.ownership import Owners, Viewer
from services.runtime.loaded import components_of


@dataclass(frozen=True, slots=True)
class Names:
    """The models behind the name that a job gave; ``language`` is an open-vocabulary model over ``encoder``."""

    name: str
    encoder: str
    language: str | None
    detects: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.encoder, self.language)))


DETECTORS = ("detect", "zero-shot-detect")
"""Tasks of models that are measured on sets with boxes."""


def resolve(models_dir: Path, name: str, viewer: Viewer) -> Names:
    """Return what a name in a job of ``viewer`` means. Raises ``model-not-found`` or ``model-embeds-no-image``."""
    owners = Owners(models_dir)
    cards = {
        found.name: found.card
        for found in installed(models_dir)
        if found.card is not None and owners.sees(viewer, found.name)
    }
    card = cards.get(name)
    if card is None:
        raise Problem(
            Kind.NOT_FOUND,
            "model-not-found",
            "Model does not exist",
            f"No model {name[:64]!r} is installed.",
            remedy="`sightline models list` shows what is installed, `sightline models pull` brings more.",
        )

    if card.task in DETECTORS:
        return Names(name, name, None, detects=True)

    language: Card | None = card
    if card.pipeline is None:
        language = next(iter(language_models(list(cards.values()), name)), None)

    encoder = name if card.pipeline is None else card.pipeline.part("image") or name
    base = cards.get(encoder)
    if base is None or base.square is None or base.embedding is None:
        raise Problem(
            Kind.INVALID,
            "model-embeds-no-image",
            "The model is no image encoder",
            f"Model {encoder!r} takes no square image or puts out no features.",
            remedy="Choose a model whose card names an image preprocessing to a square and an embedding.",
        )

    return Names(name, encoder, None if language is None else language.name)


def parts(models_dir: Path, names: Names) -> tuple[str, ...]:
    """Every model that must be loaded to measure ``names``."""
    cards = {found.name: found.card for found in installed(models_dir) if found.card is not None}
    needed = [*names.all]
    for name in (names.language or "", names.name):
        card = cards.get(name)
        if card is not None and (name != names.name or card.task in DETECTORS):
            needed += components_of(card)
    return tuple(dict.fromkeys(needed))


def newest(models_dir: Path, name: str) -> tuple[Card, Path]:
    """Find the newest version of an installed model: its card and its folder."""
    own = [(found.card, found.folder) for found in installed(models_dir) if found.name == name]
    card, folder = own[-1]
    assert card is not None
    return card, folder
