"""Training a detector: all of its layers, or low-rank updates of its 1 x 1 convolutions, with the losses of GFL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.nanodet.network import NanoDet, decoded
from services.errors import Kind, Problem
from services.finetuning.detection.losses import detection_loss
from services.finetuning.detection.photos import Objects, Photos, mirrored, stacked

WARM_UP = 20
"""Steps in which the rate rises."""
CLIP = 10.0
BACKBONE_SHARE = 0.1
"""The backbone learns at this share of the rate of what stands behind it."""
LORA_RANK, LORA_ALPHA = 8, 16.0


@dataclass(frozen=True, slots=True)
class Settings:
    """``passes`` over the photos; ``minutes`` of training, or ``None``."""

    method: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    passes: int
    seed: int
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """``told`` hears pass, share of it and loss; ``keep`` gets a state between passes; ``kept`` is the last of an
    earlier attempt: passes done and tensors. ``over`` says that the time is up."""

    told: Callable[[int, float, float], None]
    keep: Callable[[int, Callable[[], dict[str, Tensor]]], None]
    kept: tuple[int, dict[str, Tensor]] | None
    over: Callable[[], bool]


class LowRank(nn.Module):
    """``W + scale B A`` of a 1 x 1 convolution (LoRA, arXiv 2106.09685); zero at first."""

    def __init__(self, outer: int, inner: int, rank: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inner) / math.sqrt(inner))
        self.up = nn.Parameter(torch.zeros(outer, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)[:, :, None, None]


def train(network: NanoDet, photos: Photos, settings: Settings, ground: Tensor, hooks: Hooks) -> int:
    """Train in place; the number of passes that were made. ``ground (3,)`` lies beside pictures.

    Each pass has an order and mirrorings of its own, that follow from the seed and its number: an attempt that goes on
    from a checkpoint trains as one that was never stopped. Raises ``training-diverged``.
    """
    torch.manual_seed(settings.seed)
    if settings.method == "lora":
        _add_low_rank(network)
    optimiser = torch.optim.AdamW(_groups(network, settings), weight_decay=settings.weight_decay)
    done = 0
    if hooks.kept is not None:
        done = hooks.kept[0]
        _restore(network, optimiser, hooks.kept[1])

    steps = math.ceil(len(photos) / settings.batch_size)
    for number in range(done, settings.passes):
        if hooks.over():
            break
        for step, (batch, shown) in enumerate(_batches(photos, settings, number, ground)):
            rate = _rate(number * steps + step, steps * settings.passes)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate * group["share"]
            _, logits, bins, cells = network.raw(batch)
            loss = detection_loss(logits, bins, decoded(bins, cells), cells, shown)
            if not torch.isfinite(loss):
                raise _diverged(settings)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
            hooks.told(number, (step + 1) / steps, loss.item())
        done = number + 1
        hooks.keep(done, lambda: _state(network, optimiser))

    if settings.method == "lora":
        for module in _pointwise(network):
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
    network.requires_grad_(True).eval()
    return done


def trainable(network: NanoDet, method: str) -> int:
    """How many numbers a method trains."""
    if method != "lora":
        return sum(parameter.numel() for parameter in network.parameters())
    updates = sum(LORA_RANK * (one.in_channels + one.out_channels) for one in _pointwise(network))
    return updates + sum(parameter.numel() for parameter in network.head.gfl_cls.parameters())


def _batches(photos: Photos, settings: Settings, number: int, ground: Tensor) -> Iterator[tuple[Tensor, list[Objects]]]:
    generator = torch.Generator().manual_seed(settings.seed * 100_003 + number)
    order = torch.randperm(len(photos), generator=generator)
    turned = torch.rand(len(photos), generator=generator) < 0.5
    for begin in range(0, len(order), settings.batch_size):
        part = order[begin : begin + settings.batch_size].tolist()
        views = [mirrored(photos[index]) if turned[index] else photos[index] for index in part]
        yield stacked(views, ground), [view.objects for view in views]


def _rate(step: int, total: int) -> float:
    """A short rise, then a cosine."""
    rise = min(1.0, (step + 1) / WARM_UP)
    return rise * (0.5 * (1 + math.cos(math.pi * step / max(1, total))) * 0.95 + 0.05)


def _groups(network: NanoDet, settings: Settings) -> list[dict[str, object]]:
    if settings.method == "lora":
        network.requires_grad_(False)
        network.head.gfl_cls.requires_grad_(True)
        for module in _pointwise(network):
            if parametrize.is_parametrized(module):
                module.parametrizations["weight"][0].requires_grad_(True)  # type: ignore[index]
        own = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return [{"params": own, "share": 1.0, "lr": settings.learning_rate}]
    network.requires_grad_(True)
    backbone = list(network.backbone.parameters())
    rest = [*network.fpn.parameters(), *network.head.parameters()]
    return [
        {"params": backbone, "share": BACKBONE_SHARE, "lr": settings.learning_rate},
        {"params": rest, "share": 1.0, "lr": settings.learning_rate},
    ]


def _pointwise(network: NanoDet) -> list[nn.Conv2d]:
    """The 1 x 1 convolutions before the last layers, which are trained whole."""
    last = set(network.head.gfl_cls.modules())
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module not in last
    ]


def _add_low_rank(network: NanoDet) -> None:
    for module in _pointwise(network):
        update = LowRank(module.out_channels, module.in_channels, LORA_RANK, LORA_ALPHA / LORA_RANK)
        parametrize.register_parametrization(module, "weight", update)


def _state(network: NanoDet, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = {f"network.{name}": tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for index, own in optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{index}.{name}": torch.as_tensor(value).clone() for name, value in own.items()}
    return state


def _restore(network: NanoDet, optimiser: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    prefix = "network."
    network.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimiser."):
            _, index, part = name.split(".", 2)
            moments.setdefault(int(index), {})[part] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _diverged(settings: Settings) -> Problem:
    return Problem(
        Kind.INVALID,
        "training-diverged",
        "The training diverged",
        f"The loss is no number at a learning rate of {settings.learning_rate:g}.",
        pointer="/parameters/learning_rate",
        remedy="Use a smaller learning rate, or leave it out.",
    )
