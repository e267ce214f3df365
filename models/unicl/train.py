"""Trains a UniCL: ``python -m models.unicl.train``, or under ``torchrun`` for several processes.

AdamW, cosine schedule with warm-up, bfloat16, an average of the weights, and checkpoints that a killed run continues
from to the same bits. The paper's recipe is in the reference's config.py; its released main.py cannot train.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from models.errors import ModelError
from models.unicl.config_file import from_json, to_json
from models.unicl.data import Batches, CropAndFlip, ImageTextLabel, Sample, TrainingData, collate
from models.unicl.loss import unicl_loss
from models.unicl.network import UniCL
from models.unicl.tokens import Tokenise, from_file

CHECKPOINT, WEIGHTS, CONFIG, LOG = "checkpoint.pt", "model.safetensors", "config.json", "log.jsonl"


class TrainingError(ModelError):
    """A run that cannot go on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. ``batch_size`` counts all processes; rates are for that batch, not scaled.

    ``workers`` processes read and crop the pictures, 0 for the one that trains; the data must then be picklable, as
    :class:`~models.unicl.data.ImageTextLabel` is.
    """

    steps: int = 10_000
    batch_size: int = 256
    learning_rate: float = 5e-4
    least_rate: float = 5e-6
    warmup: int = 500
    weight_decay: float = 0.1
    clip: float = 5.0
    average: float = 0.999
    most_temperature: float = 100.0
    bfloat16: bool = False
    seed: int = 0
    workers: int = 0
    save_every: int = 500

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine down to ``least_rate``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.least_rate + (self.learning_rate - self.least_rate) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did; ``temperature`` is the factor on the products, not its logarithm."""

    step: int
    loss: float
    rate: float
    temperature: float
    gradient_norm: float
    images_per_second: float


def train(
    model: UniCL,
    data: TrainingData,
    tokenise: Tokenise,
    recipe: Recipe,
    out: Path,
    device: torch.device,
    due: Callable[[int], bool] | None = None,
) -> Iterator[Step]:
    """Train ``model`` in place and yield every step; the averaged weights end in ``out/model.safetensors``.

    ``due`` says after how many steps a checkpoint is to be written, and is asked once for each; absent, it is after
    every ``recipe.save_every``. Continues from ``out/checkpoint.pt`` where there is one, which must be of the same
    recipe. The caller may stop between two steps by closing the iterator; what was done since the last checkpoint is
    then done again. Raises :class:`TrainingError` when the loss is no longer finite or the checkpoint is of another
    run.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    out.mkdir(parents=True, exist_ok=True)
    model.to(device).train()
    average = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    first = _resume(out, model, average, optimizer, recipe)
    network: nn.Module = model if ranks == 1 else DistributedDataParallel(model)
    batches = Batches(len(data), recipe.batch_size, recipe.seed, first, recipe.steps, rank, ranks)
    loader: DataLoader[Sample] = DataLoader(
        data,  # type: ignore[arg-type]  # its keys are pairs, which a sampler may give and a Dataset's type does not say
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=recipe.workers,
        # New processes and not forks: torch has threads by now, and a fork would copy the locks that they hold.
        multiprocessing_context="spawn" if recipe.workers else None,
    )
    autocast = torch.autocast(device.type, torch.bfloat16) if recipe.bfloat16 else nullcontext()
    started = time.perf_counter()
    for step, (pixels, texts, labels) in enumerate(loader, start=first):
        torch.manual_seed(recipe.seed * 1_000_003 + step * ranks + rank)  # dropped paths, the same after a resume
        rate = recipe.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with autocast:
            images, captions, scale = network(pixels.to(device), tokenise(texts).to(device))
        loss = unicl_loss(images.float(), captions.float(), scale, labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        value = _mean(loss.detach())
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            raise TrainingError(f"the loss is {value} at step {step}", "Lower learning_rate or lengthen warmup.")
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(recipe.most_temperature))
            _follow(average, model, min(recipe.average, (step + 1) / (step + 10)))
        if (due(step + 1) if due else (step + 1) % recipe.save_every == 0) and rank == 0:
            _save(out, step + 1, model, average, optimizer, recipe)
        now = time.perf_counter()
        done = Step(
            step, value, rate, float(model.logit_scale.detach().exp()), float(norm), recipe.batch_size / (now - started)
        )
        started = now
        if rank == 0:
            with (out / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(done)) + "\n")
        yield done

    if rank == 0:
        _save(out, recipe.steps, model, average, optimizer, recipe)
        _publish(out, model, average)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices and embeddings decay; norms, biases, scales and the temperature do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _follow(average: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.values()), [p.detach() for p in model.parameters()], 1.0 - keep)


def _mean(loss: Tensor) -> float:
    if dist.is_initialized():
        loss = loss.clone()
        dist.all_reduce(loss)
        loss /= dist.get_world_size()
    return float(loss)


def _save(
    out: Path, step: int, model: UniCL, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, recipe: Recipe
) -> None:
    content = {
        "step": step,
        "network": to_json(model.config),
        "recipe": asdict(recipe),
        "model": model.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    _replace(out / CHECKPOINT, lambda file: torch.save(content, file))


def _resume(
    out: Path, model: UniCL, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, recipe: Recipe
) -> int:
    """The step to go on with: 0, or where the checkpoint stands. Log lines of lost steps are dropped."""
    if not (out / CHECKPOINT).exists():
        (out / LOG).unlink(missing_ok=True)
        return 0

    content = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)
    theirs, ours = content["recipe"], asdict(recipe)
    changed = [] if content["network"] == to_json(model.config) else ["network"]
    changed += sorted(name for name in ours if name not in ("workers", "save_every") and theirs.get(name) != ours[name])
    if changed:
        raise TrainingError(
            f"{out / CHECKPOINT} is of a run with another {', '.join(changed)}",
            "Train into a new folder, or take that run's recipe.",
        )

    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    for name, tensor in average.items():
        tensor.copy_(content["average"][name])

    step = int(content["step"])
    if (out / LOG).exists() and (not dist.is_initialized() or dist.get_rank() == 0):
        lines = (out / LOG).read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        _replace(out / LOG, lambda file: file.write_text("".join(lines), encoding="utf-8"))

    return step


def _publish(out: Path, model: UniCL, average: dict[str, Tensor]) -> None:
    weights = {name: tensor.cpu().contiguous() for name, tensor in {**model.state_dict(), **average}.items()}
    _replace(out / WEIGHTS, lambda file: save_file(weights, file))
    _replace(out / CONFIG, lambda file: file.write_text(to_json(model.config) + "\n", encoding="utf-8"))


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``target``, then put it in its place in one move: a kill leaves the old file or the new."""
    part = target.with_name(f"{target.name}.part")
    write(part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; every field of :class:`Recipe` is an option."""
    parser = argparse.ArgumentParser(prog="python -m models.unicl.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="the network's configuration as JSON")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the tokenizers library")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, log and weights")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--templates", type=Path, help="file with one template a line, {} for the name")
    for field in fields(Recipe):
        kind = _truth if isinstance(field.default, bool) else type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)

    options = parser.parse_args(arguments)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    cuda = torch.cuda.is_available()
    distributed = dist.is_torchelastic_launched()
    if distributed:
        dist.init_process_group("nccl" if cuda else "gloo")

    try:
        device = torch.device("cuda", dist.get_node_local_rank() if distributed else 0) if cuda else torch.device("cpu")
        config = from_json(options.model.read_text(encoding="utf-8"))
        torch.manual_seed(recipe.seed)
        templates = options.templates.read_text(encoding="utf-8").splitlines() if options.templates else ["{}"]
        data = ImageTextLabel(options.data, CropAndFlip(options.size), templates, recipe.seed)
        tokenise = from_file(options.tokenizer, config.text.context_length, config.text.vocab_size)
        for step in train(UniCL(config), data, tokenise, recipe, options.out, device):
            if not distributed or dist.get_rank() == 0:
                print(f"step {step.step} loss {step.loss:.4f} temperature {step.temperature:.1f}", flush=True)
    finally:
        if distributed:
            dist.destroy_process_group()


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def command() -> int:
    """:func:`main`, with what a person can mend told in a line and 1 as the end."""
    try:
        main()
    except ModelError as error:
        print(f"{error}\n{error.remedy}".rstrip(), file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(command())
