"""What a strategy is, and the two tools that most are made of: updates of matrices, and adapters behind branches."""

from __future__ import annotations

import copy
import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.encoders import ImageEncoder
from services.errors import Kind, Problem
from services.finetuning import strategies
from services.finetuning.strategies.sites import Part, Projection, branches, projections

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to adapt an encoder.

    ``apply`` puts what is trained into an encoder whose parameters are all frozen, by adding modules or by
    ``requires_grad_``; at that moment the encoder still computes what it did before. It raises :func:`unsuitable` for
    an encoder that it does not fit. ``options`` are the names it takes, with their defaults. ``learning_rate`` and
    ``weight_decay`` are where a search begins; ``encoder_rate`` is what the encoder gets of the head's rate.
    """

    summary: str
    apply: Callable[[ImageEncoder, Options], None]
    options: Options
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    encoder_rate: float = 1.0
    trains_encoder: bool = True


def strategy(name: str) -> Strategy:
    """Import the strategy of a name. Raises ``unknown-method`` that lists the names."""
    if name not in strategies.names():
        raise Problem(
            Kind.INVALID,
            "unknown-method",
            "There is no such method",
            f"{name[:100]!r} is no way to adapt an encoder.",
            pointer="/parameters/method",
            remedy=f"Use one of {', '.join(strategies.names())}.",
        )
    found: Strategy = importlib.import_module(f"{strategies.__name__}.{name}").STRATEGY
    return found


def unsuitable(method: str, encoder: ImageEncoder, why: str, remedy: str = "Choose another method.") -> Problem:
    """The refusal of a strategy that does not fit an architecture."""
    return Problem(
        Kind.INVALID,
        "method-unsuitable",
        "The method does not fit the encoder",
        f"{method} cannot adapt a {encoder.architecture}: {why}.",
        pointer="/parameters/method",
        remedy=remedy,
    )


def checked(method: str, chosen: Strategy, given: Options) -> dict[str, Any]:
    """``given`` with the strategy's defaults. Raises ``unknown-option`` for a name or a type that it does not take."""
    for name, value in given.items():
        known = chosen.options.get(name)
        fits = name in chosen.options and (
            isinstance(value, type(known)) or (isinstance(known, float) and type(value) is int)
        )
        if not fits or (isinstance(value, bool) and not isinstance(known, bool)):
            takes = ", ".join(f"{option} (like {value!r})" for option, value in chosen.options.items()) or "none"
            raise Problem(
                Kind.INVALID,
                "unknown-option",
                "The method has no such option",
                f"{method} does not take {name[:100]!r} = {str(value)[:100]}.",
                pointer="/parameters/options",
                remedy=f"Its options: {takes}.",
            )

    return {**chosen.options, **given}


def parts_of(
    method: str, encoder: ImageEncoder, wanted: Sequence[str], otherwise: Sequence[Part] = ()
) -> list[Projection]:
    """The encoder's projections of the ``wanted`` parts, or of ``otherwise`` where it has none of them."""
    strangers = sorted(set(wanted) - set(get_args(Part)))
    if strangers or not wanted:
        raise Problem(
            Kind.INVALID,
            "unknown-option",
            "There is no such part of an encoder",
            f"parts: {', '.join(strangers)[:100] or 'nothing'} is no kind of projection.",
            pointer="/parameters/options/parts",
            remedy=f"Name some of {', '.join(get_args(Part))}, with a space between.",
        )

    every = projections(encoder.network)
    chosen = [site for site in every if site.part in wanted] or [site for site in every if site.part in otherwise]
    if not chosen:
        there = ", ".join(sorted({site.part for site in every})) or "none that this method knows"
        raise unsuitable(method, encoder, f"it has no {' or '.join(wanted)} projection (its projections: {there})")

    return chosen


class Added(nn.Module):
    """A parametrisation: the weight plus the updates of some of its rows. Removing it leaves their sum."""

    def __init__(self, updates: Iterable[tuple[Projection, nn.Module]]) -> None:
        super().__init__()
        pairs = list(updates)
        self.rows = [(site.start, site.stop) for site, _ in pairs]
        self.updates = nn.ModuleList(update for _, update in pairs)

    def forward(self, weight: Tensor) -> Tensor:
        changed = weight.flatten(1) if weight.ndim > 1 else weight
        pieces, done = [], 0
        for (start, stop), update in zip(self.rows, self.updates, strict=True):
            pieces += [changed[done:start], changed[start:stop] + cast("Callable[[], Tensor]", update.weight)()]
            done = stop
        return torch.cat([*pieces, changed[done:]]).view_as(weight)


def add_updates(sites: Sequence[Projection], make: Callable[[Projection], nn.Module]) -> None:
    """Give every site an update: a module whose ``weight()`` has the site's shape and is zero at first."""
    of_module: dict[tuple[nn.Module, str], list[Projection]] = defaultdict(list)
    for site in sites:
        of_module[site.module, site.weight].append(site)
    for (module, weight), own in of_module.items():
        getattr(module, weight).requires_grad_(False)
        # The check would compute every update once more, in float64 where a backbone is half precision.
        parametrize.register_parametrization(module, weight, Added((s, make(s)) for s in own), unsafe=True)


class Behind(nn.Module):
    """A branch's last module with an adapter behind it."""

    def __init__(self, inner: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.adapter(self.inner(x))
        return out


def add_adapters(method: str, encoder: ImageEncoder, make: Callable[[int, bool], nn.Module]) -> None:
    """Put ``make(width, channels_first)`` behind every branch. Raises ``method-unsuitable`` where there is none."""
    found = branches(encoder.network)
    if not found:
        raise unsuitable(method, encoder, "it has no residual branch that an adapter may follow")
    for branch in found:
        inner = branch.parent.get_submodule(branch.name)
        setattr(branch.parent, branch.name, Behind(inner, make(branch.width, branch.channels_first)))


@torch.no_grad()
def merged(encoder: ImageEncoder) -> tuple[ImageEncoder, bool]:
    """A copy with every update folded into its weight, on the CPU; true when it is the plain network again.

    Adapters stay, since they are no part of any weight.
    """
    with torch.device("meta"):
        plain = ImageEncoder(encoder.config)

    weights: dict[str, Tensor] = {}
    try:
        for name in plain.state_dict():
            path, _, leaf = name.rpartition(".")
            weights[name] = getattr(encoder.get_submodule(path), leaf).detach().cpu().clone().contiguous()
    except AttributeError:  # something stands between two modules of the plain network
        return copy.deepcopy(encoder).cpu().eval().requires_grad_(False), False

    plain.load_state_dict(weights, strict=True, assign=True)
    return plain.eval().requires_grad_(False), True
