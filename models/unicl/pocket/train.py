"""Train the pocket UniCL on a built set of pictographs.

``python -m models.unicl.pocket.train --data DIR --out DIR [--minutes M | --steps N]``. Drawings of the trained concepts
carry labels, titled drawings are captions (each title a class of its own). The schedule runs over wall time or over
steps; with ``--steps`` a run that was killed continues from its last checkpoint to the same bits.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.unicl.pocket.augment import Augment
from models.unicl.pocket.dataset import Pictographs
from models.unicl.pocket.network import PocketUniCL, normalised, whitening

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "unicl-pocket.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Batches hold ``concepts`` concepts in two drawings each and ``captions`` titled ones; ``bank`` texts of other
    concepts are further negatives. ``unicl=False`` is plain CLIP, where the two drawings of a concept repel each
    other's texts; ``sizes`` are sides of pictures with the share of the schedule that they begin at."""

    minutes: float = 0.0
    steps: int = 0
    sizes: tuple[tuple[float, int], ...] = ((0.0, 32), (0.7, 48))
    concepts: int = 40
    captions: int = 16
    bank: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    subcategory: float = 0.2
    ema: float = 0.998
    warmup: int = 200
    seed: int = 0
    unicl: bool = True
    muon: bool = True

    def size(self, done: float) -> int:
        """Side of the pictures at a share of the schedule."""
        return [side for start, side in self.sizes if done >= start][-1]


class Trainer:
    """One run: everything that a checkpoint holds. Random draws depend on the seed and the step alone."""

    def __init__(self, data: Pictographs, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.data, self.recipe = data, recipe

        mean, whiten = whitening(data.trained_texts())
        self.model = PocketUniCL(mean, whiten)
        self.average = PocketUniCL(mean.clone(), whiten.clone())
        self.average.load_state_dict(self.model.state_dict())

        self.optimizers = _optimizers(self.model, recipe)
        self.generator = torch.Generator()
        self.augment = Augment(data.photos, self.generator)
        self.step = 0
        self.images = 0
        self.spent = 0.0

    @property
    def done(self) -> float:
        """Share of the schedule, 0 to 1."""
        if self.recipe.steps:
            return min(1.0, self.step / self.recipe.steps)
        return min(1.0, self.spent / (60 * self.recipe.minutes))

    def one_step(self) -> float:
        """Take one step and return its loss."""
        recipe, done = self.recipe, self.done
        rate = min(1, (self.step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * done))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * max(rate, 0.01)

        seed = (recipe.seed << 32) + self.step
        self.generator.manual_seed(seed)
        torch.manual_seed(seed)  # dropout

        loss = self.loss(
            np.random.default_rng([recipe.seed, self.step]), recipe.size(done), min(1.0, 0.25 + 1.5 * done)
        )

        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
            keep = min(recipe.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)

        self.step += 1
        self.images += 2 * recipe.concepts + recipe.captions
        return loss.item()

    def loss(self, rng: np.random.Generator, size: int, strength: float) -> Tensor:
        """UniCL over one batch of drawings, plus the subcategory's name as a second label."""
        data, recipe = self.data, self.recipe
        chosen = rng.choice(data.trained, recipe.concepts, replace=False)
        pairs = [rng.choice(data.drawings[concept], 2, replace=False) for concept in chosen]
        art = rng.choice(data.titled, min(recipe.captions, len(data.titled)), replace=False)

        concepts = torch.from_numpy(np.repeat(chosen, 2))
        titles = data.title[art].long()
        mirror = torch.cat([data.mirror[concepts], torch.ones(len(art), dtype=torch.bool)])
        drawings = data.images[np.concatenate([*pairs, art])]
        pictures = normalised(self.augment(drawings, size, strength, mirror))

        bank = rng.choice(data.trained, min(recipe.bank, len(data.trained)), replace=False)
        said = torch.cat([data.any_text(concepts.numpy(), rng), data.title_texts[titles], data.any_text(bank, rng)])
        image_ids = torch.cat([concepts, len(data.concepts) + titles])
        text_ids = torch.cat([image_ids, torch.from_numpy(bank)])

        if not recipe.unicl:  # every pair is a class of its own, and the bank leaves out what is in the batch
            other = ~torch.isin(text_ids[len(image_ids) :], image_ids)
            said = torch.cat([said[: len(image_ids)], said[len(image_ids) :][other]])
            image_ids, text_ids = torch.arange(len(image_ids)), torch.arange(len(said))

        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.image(pictures)
            text = self.model.text(said)
            names = self.model.text(data.subcategory_texts)

        image = F.normalize(features.float(), dim=-1)
        scale = self.model.logit_scale.exp()
        loss = unicl_loss(image, text, image_ids, text_ids, scale)
        if recipe.subcategory:
            logits = scale * image[: len(concepts)] @ names.T
            loss = loss + recipe.subcategory * F.cross_entropy(logits, data.subcategory[concepts])
        return loss

    def save(self, out: Path) -> None:
        """Write the checkpoint and the averaged weights; each replaces the one before in one go."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}

        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in state.items()}

        progress = {"step": str(self.step), "images": str(self.images), "spent": repr(self.spent)}
        save_file(tensors, out / "checkpoint.new", progress)
        (out / "checkpoint.new").replace(out / CHECKPOINT)
        save_file(self.average.state_dict(), out / "weights.new")
        (out / "weights.new").replace(out / WEIGHTS)

    def resume(self, out: Path) -> None:
        """Go on from the checkpoint of ``out``."""
        with safe_open(out / CHECKPOINT, "pt") as file:
            progress = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.model.load_state_dict(_under("model.", tensors))
        self.average.load_state_dict(_under("average.", tensors))

        for number, optimizer in enumerate(self.optimizers):
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(f"optimizer.{number}.", tensors).items():
                index, _, key = name.partition(".")
                states.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})

        self.step, self.images = int(progress["step"]), int(progress["images"])
        self.spent = float(progress["spent"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def unicl_loss(image: Tensor, text: Tensor, image_ids: Tensor, text_ids: Tensor, scale: Tensor) -> Tensor:
    """Bidirectional contrastive loss (arXiv 2204.03610, equations 3 to 5); texts beyond the images are negatives.

    ``image (B, D)``, ``text (T, D)``, T >= B, the first B texts belong to the images. Without further texts it is
    :func:`models.unicl.loss.unicl_loss`.
    """
    logits = scale * image @ text.T
    same = (image_ids[:, None] == text_ids[None, :]).float()
    to_text = -(same / same.sum(1, keepdim=True) * logits.log_softmax(dim=1)).sum(1).mean()
    own, mine = logits[:, : len(image)].T, same[:, : len(image)].T
    to_image = -(mine / mine.sum(1, keepdim=True) * own.log_softmax(dim=1)).sum(1).mean()
    return (to_text + to_image) / 2


def _optimizers(model: PocketUniCL, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [
        parameter for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and recipe.muon and name.startswith("image.layers")
    ]  # fmt: skip
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in taken]

    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]

    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))]
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


def train(data: Pictographs, recipe: Recipe, out: Path, *, every: int = 100, save_every: int = 250) -> PocketUniCL:
    """Run the recipe, from the checkpoint of ``out`` if there is one, and return the averaged model.

    ``train.jsonl`` gets a line every ``every`` steps, ``recipe.json`` what was asked for.
    """
    trainer = Trainer(data, recipe)
    if (out / CHECKPOINT).exists():
        trainer.resume(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")

    before, begin, losses = trainer.spent, time.perf_counter(), []
    with (out / "train.jsonl").open("a") as log:
        while trainer.done < 1:
            size = recipe.size(trainer.done)
            losses.append(trainer.one_step())
            trainer.spent = before + time.perf_counter() - begin

            if trainer.step % every == 0:
                line = {
                    "step": trainer.step, "images": trainer.images, "size": size,
                    "minutes": round(trainer.spent / 60, 2), "loss": round(sum(losses) / len(losses), 4),
                    "scale": round(trainer.model.logit_scale.exp().item(), 2),
                }  # fmt: skip
                print(json.dumps(line), file=log, flush=True)
                losses.clear()

            if trainer.step % save_every == 0:
                trainer.save(out)
    trainer.save(out)
    return trainer.average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of `sightline datasets build pictographs`")
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, default=0.0, help="of wall time")
    length.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clip", action="store_true", help="plain CLIP loss, for comparison")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe (JSON)")

    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    asked = [change.partition("=") for change in options.set]
    changes = {name: json.loads(value) for name, _, value in asked}
    recipe = Recipe(minutes=options.minutes, steps=options.steps, seed=options.seed, unicl=not options.clip, **changes)
    train(Pictographs(options.data), recipe, options.out)


if __name__ == "__main__":
    main()
