"""The classification head of ELEVATER and its training on fixed features.

Reference: ``Classifier`` and ``train_task`` of ``vision_benchmark/evaluation/full_model_finetune.py``. Features are
normalised per channel by a batch norm without parameters, scaled, and multiplied by a linear layer whose rows may
start as the classes' text embeddings (language-aware initialisation, ELEVATER section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.finetuning.heads.normalisation import Moments

LogitScale = Literal["none", "clip", "ln_cls", "pretrained"]
CLIP_LOG_SCALE = math.log(1 / 0.07)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """``TRAIN.*`` of the toolkit: USE_CHANNEL_BN, NORMALIZE_VISUAL_FEATURE, LOGIT_SCALE_INIT."""

    channel_bn: bool = True
    normalize: bool = False
    logit_scale: LogitScale = "none"
    pretrained_log_scale: float = CLIP_LOG_SCALE


class Standard(nn.Module):
    """``(B, D)`` features by fixed means and deviations."""

    mean: Tensor
    scale: Tensor

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(moments.mean))
        self.register_buffer("scale", torch.from_numpy(moments.scale))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale


class Head(nn.Module):
    """``(B, D) float32`` features to ``(B, C)`` logits."""

    logit_scale: Tensor

    def __init__(
        self, dim: int, classes: int, config: HeadConfig, text: Tensor | None = None, *, moments: Moments | None = None
    ) -> None:
        """``text`` ``(C, D)``: unit rows that the linear layer starts from, with bias 0.

        ``moments``: of the training features, which come first where they are given; the toolkit has none.
        """
        super().__init__()
        self.config = config
        self.standard = nn.Identity() if moments is None else Standard(moments)
        self.channel_bn = nn.BatchNorm1d(dim, affine=False) if config.channel_bn else nn.Identity()
        self.linear = nn.Linear(dim, classes)
        start = {"none": 0.0, "clip": CLIP_LOG_SCALE, "pretrained": config.pretrained_log_scale}
        log_scale = math.log(math.log(classes)) if config.logit_scale == "ln_cls" else start[config.logit_scale]
        self.register_buffer("logit_scale", torch.tensor(log_scale, dtype=torch.float32))

        if text is not None:
            with torch.no_grad():
                self.linear.weight.copy_(text)
                self.linear.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        features = self.channel_bn(self.standard(features))
        if self.config.normalize:
            features = functional.normalize(features, dim=-1)
        logits: Tensor = self.logit_scale.exp() * self.linear(features)
        return logits

    def folded(self) -> tuple[Tensor, Tensor]:
        """Fold this head into weight ``(C, D)`` and bias ``(C,)`` of the linear layer that equals it in evaluation.

        Raises ``ValueError`` with ``normalize``, which is not linear.
        """
        if self.config.normalize:
            raise ValueError("a head that normalises its features cannot be folded into a linear layer")

        scale = self.logit_scale.exp()
        weight: Tensor = self.linear.weight
        bias: Tensor = self.linear.bias
        if isinstance(self.channel_bn, nn.BatchNorm1d):
            mean, var = self.channel_bn.running_mean, self.channel_bn.running_var
            assert mean is not None and var is not None
            weight = weight * (var + self.channel_bn.eps).rsqrt()
            bias = bias - weight @ mean

        if isinstance(self.standard, Standard):
            weight = weight * self.standard.scale
            bias = bias - weight @ self.standard.mean

        return (scale * weight).detach(), (scale * bias).detach()


Optimizer = Literal["sgd", "adamw"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Optimisation of a head, or of a whole model: a constant learning rate, weight decay on everything trained.

    ``sgd`` with momentum 0.9 is the toolkit's. ``encoder_rate`` is the learning rate of what is trained below the head,
    as a share of the head's; the toolkit has 1.
    """

    learning_rate: float
    weight_decay: float
    epochs: int = 10
    batch_size: int = 64
    seed: int = 0
    optimizer: Optimizer = "sgd"
    encoder_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch ended with; ``loss`` is the mean over its batches.

    ``snapshot`` gives the state of training after it, from which :func:`train_probe` goes on.
    """

    number: int
    loss: float
    metric: float
    snapshot: Callable[[], dict[str, Tensor]] = field(default=dict, repr=False, compare=False)


class Inputs(Protocol):
    """What a model takes, row by row: features in a tensor, or pictures that are read when their batch comes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


def train_probe(
    model: nn.Module,
    inputs: Inputs,
    labels: Tensor,
    probe: Probe,
    *,
    score: Callable[[Tensor], float] | None = None,
    validation: Inputs | None = None,
    after: tuple[int, Mapping[str, Tensor]] | None = None,
    between: Callable[[], None] = lambda: None,
) -> Iterator[Epoch]:
    """Train ``model`` on ``inputs`` (N rows) and ``labels`` ``(N,)`` int64 or ``(N, C)`` 0/1, an epoch at a time.

    ``score`` turns softmax probabilities ``(M, C)`` of ``validation`` into the epoch's metric. Batches are shuffled by
    a generator seeded with ``probe.seed``; a batch of one row is skipped, since a batch norm has no variance there.
    The caller may stop early by closing the iterator, and may read the model between epochs. ``after`` is the number
    of the last epoch done and its snapshot: the rest is then what it would have been. ``between`` runs before every
    batch and may raise to stop. Raises ``FloatingPointError`` when the loss is not finite.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = _optimizer(trained, probe)
    generator = torch.Generator().manual_seed(probe.seed)
    loss_of = functional.cross_entropy if labels.ndim == 1 else functional.binary_cross_entropy_with_logits

    done = 0
    if after is not None:
        done = after[0]
        _restore(model, trained, optimizer, after[1])

    for number in range(1, probe.epochs + 1):
        order = torch.randperm(len(inputs), generator=generator)
        if number <= done:
            continue

        model.train()
        losses: list[float] = []
        for batch in order.split(probe.batch_size):
            if len(batch) == 1:
                continue

            between()
            loss = loss_of(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break

        mean = sum(losses) / max(1, len(losses))
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {number} at learning rate {probe.learning_rate:g}; use a smaller one"
            )

        metric = math.nan
        if score is not None and validation is not None:
            metric = score(probabilities(model, validation, probe.batch_size, between))
        yield Epoch(number, mean, metric, lambda: _snapshot(model, trained, optimizer))


ROWS = 4096
"""Of features at once; pictures come by the batch size."""


@torch.no_grad()
def probabilities(
    model: nn.Module, inputs: Inputs, batch_size: int = 64, between: Callable[[], None] = lambda: None
) -> Tensor:
    """Compute the softmax ``(N, C)`` on the CPU, in evaluation mode; also for several labels, as the toolkit does."""
    model.eval()
    if isinstance(inputs, Tensor):
        if len(inputs) <= ROWS:
            scores: Tensor = model(inputs).softmax(dim=-1)
            return scores.cpu()
        batch_size = ROWS

    found = []
    for batch in torch.arange(len(inputs)).split(batch_size):
        between()
        found.append(model(inputs[batch]).softmax(dim=-1).cpu())

    return torch.cat(found)


def _optimizer(trained: Mapping[str, nn.Parameter], probe: Probe) -> torch.optim.Optimizer:
    below = [parameter for name, parameter in trained.items() if name.startswith("encoder.")]
    head = [parameter for name, parameter in trained.items() if not name.startswith("encoder.")]
    rates = ((head, probe.learning_rate), (below, probe.learning_rate * probe.encoder_rate))
    groups = [{"params": parameters, "lr": rate} for parameters, rate in rates if parameters]
    if probe.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=probe.weight_decay)
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=probe.weight_decay)


def _snapshot(
    model: nn.Module, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Copy trained parameters, buffers that training changes, and the optimizer's memory to the CPU."""
    state = {f"parameter/{name}": value.detach() for name, value in trained.items()}
    state |= {f"buffer/{name}": value for name, value in model.named_buffers() if "channel_bn" in name}
    for name, value in trained.items():
        memories = optimizer.state[value].items()
        state |= {f"optimizer/{name}/{kind}": memory for kind, memory in memories if isinstance(memory, Tensor)}
    return {name: value.cpu().clone().contiguous() for name, value in state.items()}


@torch.no_grad()
def _restore(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Tensor],
) -> None:
    buffers = dict(model.named_buffers())

    for name, value in state.items():
        kind, _, rest = name.partition("/")
        if kind == "parameter":
            trained[rest].copy_(value)
        elif kind == "buffer":
            buffers[rest].copy_(value)
        elif kind == "optimizer":
            owner, _, memory = rest.rpartition("/")
            parameter = trained[owner]
            optimizer.state[parameter][memory] = value.clone() if memory == "step" else value.to(parameter.device)
