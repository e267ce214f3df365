"""Local intrinsic dimension (arXiv 2203.16329, section 3): how many directions of a sub-module a task needs.

A sub-module is trained inside a random subspace, ``W = W_0 + P d`` with ``dim(d)`` numbers in all (Li et al., arXiv
1804.08838). Its intrinsic dimension is the smallest ``dim(d)`` that reaches nine tenths of what training the whole
sub-module gains over a linear probe. The parts with the smallest are adapted: in a vision transformer the attention,
not the MLP.

``P`` has one entry of +1 or -1 in every row, so that it costs as much memory as the weight and not ``dim(d)`` times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders import ImageEncoder
from services.adaptation.adapted import Adapted, apply
from services.adaptation.examples import Examples, scorer, tensors
from services.adaptation.head import Head, Probe, train_probe
from services.adaptation.recipe import Recipe, device, placed
from services.adaptation.sites import Part, Projection, projections
from services.adaptation.strategies.base import add_updates

SHARE = 0.9
DIMENSIONS = (1, 4, 16, 64, 256, 1024, 4096)

LEARNING_RATE = 1e-2


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """Of one part: its parameters, the score of training them all, and the dimensions with their scores.

    ``probe`` is the score of a linear probe, where nothing of the encoder trains.
    """

    part: Part
    parameters: int
    probe: float
    score: float
    scores: tuple[tuple[int, float], ...]

    @property
    def dimension(self) -> int:
        """The smallest tried that reaches :data:`SHARE` of the gain; all parameters where none does."""
        if self.score <= self.probe:
            return self.parameters
        return next((size for size, score in self.scores if score >= wanted(self.probe, self.score)), self.parameters)


def wanted(probe: float, whole: float) -> float:
    """The score that a subspace must reach to be large enough."""
    return probe + SHARE * (whole - probe)


class Subspace(nn.Module):
    """The update of one weight by ``d``, which all sites of a part share."""

    def __init__(self, site: Projection, d: nn.Parameter, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = site.shape
        count = self.shape[0] * self.shape[1]
        self.d = d
        self.place: Tensor
        self.sign: Tensor
        self.register_buffer("place", torch.randint(len(d), (count,), generator=generator))
        self.register_buffer("sign", 2.0 * torch.randint(2, (count,), generator=generator) - 1.0)

    def weight(self) -> Tensor:
        """``(rows, columns)``, zero at first."""
        # The columns of P have unit length, so that one learning rate fits every dimension.
        length = (len(self.d) / self.place.numel()) ** 0.5
        update: Tensor = (self.sign * self.d[self.place] * length).view(self.shape)
        return update


class Whole(nn.Module):
    """The update of one weight without a subspace."""

    def __init__(self, site: Projection) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros(site.shape))

    def weight(self) -> Tensor:
        return self.added


def measure(
    encoder: ImageEncoder,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    parts: Sequence[Part] | None = None,
    dimensions: Sequence[int] = DIMENSIONS,
    between: Callable[[], None] = lambda: None,
) -> list[Intrinsic]:
    """Every part of the encoder (or the ``parts``), the smallest dimension first.

    Each is trained at most ``len(dimensions) + 1`` times for the recipe's search epochs, at the recipe's learning
    rate, and the head with it.
    """
    probe = _score(encoder, None, None, train, validation, recipe, between)
    there = {site.part for site in projections(encoder.network)}
    found = []
    for part in [part for part in (parts or sorted(there)) if part in there]:
        size = sum(site.shape[0] * site.shape[1] for site in projections(encoder.network) if site.part == part)
        whole = _score(encoder, part, None, train, validation, recipe, between)
        scores = []
        for dimension in [dimension for dimension in dimensions if dimension < size]:
            scores.append((dimension, _score(encoder, part, dimension, train, validation, recipe, between)))
            if scores[-1][1] >= wanted(probe, whole):
                break  # larger ones can only repeat it
        found.append(Intrinsic(part, size, probe, whole, tuple(scores)))
    return sorted(found, key=lambda one: (one.dimension, -one.score))


def select(measured: Sequence[Intrinsic], count: int = 2) -> str:
    """The ``parts`` option of a strategy: the ``count`` parts of the smallest dimension."""
    return " ".join(one.part for one in measured[:count])


def _score(
    encoder: ImageEncoder,
    part: Part | None,
    dimension: int | None,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    between: Callable[[], None],
) -> float:
    """The best score of an epoch with one part (or none) trained, in a subspace where a dimension is given."""
    prepared = apply(encoder, "linear_probe", {})
    sites = [site for site in projections(prepared.network) if site.part == part]
    generator = torch.Generator().manual_seed(recipe.seed)
    if dimension is None:
        add_updates(sites, Whole)
    else:
        d = nn.Parameter(torch.zeros(dimension))
        add_updates(sites, lambda site: Subspace(site, d, generator))
    torch.manual_seed(recipe.seed)
    model = Adapted(prepared.eval(), Head(encoder.dim_out, recipe.classes, recipe.head)).to(device())
    inputs, labels = tensors(train, recipe)
    probe = Probe(
        recipe.learning_rate or LEARNING_RATE,
        0.0,
        recipe.search_epochs,
        recipe.batch_size,
        recipe.seed,
        recipe.optimizer,
    )
    epochs = train_probe(
        model,
        placed(inputs, device()),
        labels.to(device()),
        probe,
        scorer(validation, recipe),
        placed(validation.inputs, device()),
        between=between,
    )
    try:
        return max(float(epoch.metric) for epoch in epochs)
    except FloatingPointError:
        return 0.0
