"""Local intrinsic dimension (arXiv 2203.16329, section 3): how many directions of a sub-module a task needs.

A sub-module is trained inside a random subspace, ``W = W_0 + P d`` with ``dim(d)`` numbers in all (Li et al., arXiv
1804.08838). Its intrinsic dimension is the smallest ``dim(d)`` that reaches nine tenths of what training the whole
sub-module gains over a linear probe. The parts with the smallest are adapted: in a vision transformer the attention,
not the MLP.

``P`` has one entry of +1 or -1 in every row, so that it costs as much memory as the weight and not ``dim(d)`` times.

All trainings of a part move its weights by the same length a step, a share of the weights' own: with one learning rate
for every dimension a small subspace, which sees a small part of the gradient, would not move at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders import ImageEncoder
from services.finetuning.data.examples import Examples, scorer, tensors
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.adapted import Adapted, apply
from services.finetuning.encoders.placing import device, device_of, features_of, placed
from services.finetuning.heads.head import Head, Probe, train_probe
from services.finetuning.heads.normalisation import Moments
from services.finetuning.heads.recipe import Recipe
from services.finetuning.strategies.base import add_updates
from services.finetuning.strategies.sites import Part, Projection, projections

SHARE = 0.9
DIMENSIONS = (1, 4, 16, 64, 256, 1024, 4096)

LEARNING_RATE = 1e-2
"""Of the head; AdamW, which moves by the rate whatever the gradient's length is."""

STEP = 3e-3
"""How far a step moves the weights of a part, as a share of their length."""


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

    Each is trained at most ``len(dimensions) + 1`` times for the recipe's search epochs, and the head with it; the
    linear probe, once, on features. ``train`` and ``validation`` are pictures.
    """
    measuring = _Measuring(encoder, train, validation, recipe, between)
    probe = measuring.probe()
    there = {site.part for site in projections(encoder.network)}
    found = []
    for part in [part for part in (parts or sorted(there)) if part in there]:
        size = sum(site.shape[0] * site.shape[1] for site in projections(encoder.network) if site.part == part)
        whole = measuring.score(part, None)
        scores = []
        for dimension in [dimension for dimension in dimensions if dimension < size and whole > probe]:
            scores.append((dimension, measuring.score(part, dimension)))
            if scores[-1][1] >= wanted(probe, whole):
                break  # larger ones can only repeat it
        found.append(Intrinsic(part, size, probe, whole, tuple(scores)))

    return sorted(found, key=lambda one: (one.dimension, -one.score))


def select(measured: Sequence[Intrinsic]) -> str:
    """The ``parts`` option of a strategy: of the parts that gain anything the half of the smallest dimension.

    Empty where none gains.
    """
    gaining = [one.part for one in measured if one.score > one.probe]
    return " ".join(gaining[: max(1, len(measured) // 2)])


class _Measuring:
    """What all trainings share."""

    def __init__(
        self,
        encoder: ImageEncoder,
        train: Examples,
        validation: Examples,
        recipe: Recipe,
        between: Callable[[], None],
    ) -> None:
        self._encoder, self._train, self._validation = encoder, train, validation
        self._recipe, self._between = recipe, between
        self._features = [
            Examples(features_of(encoder, part.inputs, recipe.batch_size, between), part.labels)
            for part in (train, validation)
            if isinstance(part.inputs, Pictures)
        ]
        self._moments = Moments.of(self._features[0].features)

    def probe(self) -> float:
        """The best score of an epoch with nothing but the head trained."""
        train, validation = self._features
        return self._best(self._head(), train, validation, 1.0)

    def score(self, part: Part, dimension: int | None) -> float:
        """The best score of an epoch with one part trained, in a subspace where a dimension is given."""
        prepared = apply(self._encoder, "linear_probe", {})
        sites = [site for site in projections(prepared.network) if site.part == part]
        length, size = _length(sites)
        if dimension is None:
            add_updates(sites, Whole)
        else:
            d = nn.Parameter(torch.zeros(dimension))
            generator = torch.Generator().manual_seed(self._recipe.seed)
            add_updates(sites, lambda site: Subspace(site, d, generator))
        model = Adapted(prepared.eval(), self._head()).to(device())
        share = STEP * length / (dimension or size) ** 0.5 / LEARNING_RATE
        return self._best(model, self._train, self._validation, share)

    def _head(self) -> Head:
        torch.manual_seed(self._recipe.seed)
        return Head(self._encoder.dim_out, self._recipe.classes, self._recipe.head, moments=self._moments)

    def _best(self, model: nn.Module, train: Examples, validation: Examples, share: float) -> float:
        recipe, where = self._recipe, device_of(model)
        inputs, labels = tensors(train, recipe)
        probe = Probe(LEARNING_RATE, 0.0, recipe.search_epochs, recipe.batch_size, recipe.seed, "adamw", share)
        epochs = train_probe(
            model,
            placed(inputs, where),
            labels.to(where),
            probe,
            score=scorer(validation, recipe),
            validation=placed(validation.inputs, where),
            between=self._between,
        )

        try:
            return max(float(epoch.metric) for epoch in epochs)
        except FloatingPointError:
            return 0.0


def _length(sites: Sequence[Projection]) -> tuple[float, int]:
    """The length of the weights of ``sites`` as one vector, and how many they are."""
    square, size = 0.0, 0
    for site in sites:
        weight: Tensor = getattr(site.module, site.weight)[site.start : site.stop]
        square, size = square + float(weight.detach().square().sum()), size + weight.numel()
    return square**0.5, size
