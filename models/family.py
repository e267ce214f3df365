"""What a line of networks gives the house: one :class:`Family`, in ``models/<line>/family.py``.

:mod:`models.families` is the table of them. Nothing here imports torch, so that a line that builds without it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalog.card import Card
from models.progress import Progress

if TYPE_CHECKING:
    from models.encoders import ImageEncoder
    from models.intake.checkpoint import State
    from models.intake.conversion import Job, Version
    from models.parity import FixtureKind

Files = Mapping[str, Path | bytes]
"""Paths inside the version folder, and where their content is now."""

Options = Mapping[str, str | int | float | bool]
"""What a catalog entry says to its builder."""


@dataclass(frozen=True)
class Build:
    """What a builder works with: the card to be fulfilled, the entry's options, the folders of verified source files by
    id, the repository with the models that the entry requires, and an empty scratch folder."""

    card: Card
    options: Options
    sources: Mapping[str, Path]
    repository: Path
    scratch: Path
    progress: Progress


@dataclass(frozen=True, slots=True)
class Builder:
    """``build`` makes a version's files. ``encoder`` gives the model's image encoder in PyTorch from the options and
    sources, for training; a model without one may keep an encoder in its folder (:mod:`models.encoders`)."""

    build: Callable[[Build], Files]
    encoder: Callable[[Options, Mapping[str, Path]], ImageEncoder] | None = None


@dataclass(frozen=True, slots=True)
class Converter:
    """A published checkpoint to models. ``fits`` tells of a state under any of its published namings what it is, in
    words, and which variant that is; a mixture of namings raises ``CheckpointError``. ``parts`` are the names of the
    models that are made beside the one of the release's own name."""

    convert: Callable[[Job], Iterator[Version]]
    fits: Callable[[State], Mapping[str, str]]
    parts: Callable[[str], tuple[str, ...]] = lambda name: ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Everything that a line registers; what it does not have is left out.

    ``builders`` are what the ``build`` of a catalog entry of this family may name: nothing else in a YAML file can
    choose code to run. ``converter`` serves its published checkpoints, ``fixtures`` are its parity checks.
    """

    builders: Mapping[str, Builder] = field(default_factory=dict)
    converter: Converter | None = None
    fixtures: tuple[FixtureKind, ...] = ()
