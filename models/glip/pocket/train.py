"""Train the small GLIP on composed scenes, on one CPU thread.

``python -m models.glip.pocket.train --data DIR --out DIR --steps N`` writes ``glip-pocket.safetensors`` (the running
average of the weights), a log of the losses and ``checkpoint.safetensors``, from which the same command goes on.
``--start FILE`` takes the weights that an earlier run left; layers of deep fusion that it did not have begin anew.
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
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.glip.fusion import Fusion
from models.glip.pocket.batches import Batches
from models.glip.pocket.captions import Composer
from models.glip.pocket.drawings import Drawings
from models.glip.pocket.loss import Losses, losses
from models.glip.pocket.network import PocketConfig, PocketGlip
from models.unicl.pocket.augment import flattened
from models.unicl.pocket.build import TRAIN_STYLES
from models.unicl.pocket.export import WEIGHTS as TEACHER
from models.unicl.pocket.network import DIM, SIZE
from models.unicl.pocket.network import load as load_teacher

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "glip-pocket.safetensors"


@dataclass(frozen=True)
class Recipe:
    """The trunk learns ``trunk`` times as fast as the rest, its first stage not at all. ``start`` is a file of weights
    to begin with."""

    steps: int
    fused: bool = True
    batch: int = 16
    learning_rate: float = 1e-3
    trunk: float = 0.3
    weight_decay: float = 0.05
    distil: float = 1.0
    ema: float = 0.998
    warmup: int = 100
    seed: int = 0
    start: str = ""


class Trainer:
    """One run: everything that a checkpoint holds. Random draws depend on the seed and the step alone."""

    def __init__(self, drawings: Drawings, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = begun(PocketConfig(fused=recipe.fused), Path(recipe.start) if recipe.start else None)
        self.average = PocketGlip(self.model.config)
        self.average.load_state_dict(self.model.state_dict())

        composer = Composer(drawings, drawings.trained, TRAIN_STYLES, training=True)
        self.batches = Batches(composer, taught(drawings), recipe.batch, recipe.seed)
        for frozen in (self.model.trunk.patch_embed, self.model.trunk.layers[0]):
            frozen.requires_grad_(False)
        for module in self.model.modules():
            if isinstance(module, Fusion):
                module.register_forward_hook(_halved)
        self.optimizer = _optimizer(self.model, recipe)
        self.step, self.spent = 0, 0.0

    def one_step(self) -> Losses:
        """Take one step and return its losses."""
        recipe = self.recipe
        done = self.step / recipe.steps
        rate = min(1, (self.step + 1) / recipe.warmup) * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate * group["share"]

        images, rows, targets = self.batches(self.step)
        with torch.autocast("cpu", torch.bfloat16):
            found = self.model(images.contiguous(memory_format=torch.channels_last), rows, targets.mask)
            named = self.model.row(found.places[targets.taken])
        lost = losses(found, named, targets, self.batches.anchors, distil=recipe.distil)

        self.optimizer.zero_grad()
        torch.stack(list(lost)).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        with torch.no_grad():
            keep = min(recipe.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        self.step += 1
        return lost

    def save(self, out: Path) -> None:
        """Write the checkpoint and the averaged weights; each replaces the one before in one go."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        progress = {"step": str(self.step), "spent": repr(self.spent)}
        save_file(tensors, out / "checkpoint.new", progress)
        (out / "checkpoint.new").replace(out / CHECKPOINT)
        save_file(self.average.state_dict(), out / "weights.new", {"fused": str(self.recipe.fused)})
        (out / "weights.new").replace(out / WEIGHTS)

    def resume(self, out: Path) -> None:
        """Go on from the checkpoint of ``out``."""
        with safe_open(out / CHECKPOINT, "pt") as file:
            progress = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.model.load_state_dict(_under("model.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step, self.spent = int(progress["step"]), float(progress["spent"])


def _halved(module: nn.Module, inputs: object, outputs: tuple[list[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
    """Hand levels on in bfloat16, which the norms of deep fusion leave in single precision: a third of a step."""
    levels, tokens = outputs
    return [level.bfloat16() for level in levels], tokens


def begun(config: PocketConfig, start: Path | None) -> PocketGlip:
    """A network on the trunk of ``unicl-pocket``, or on what an earlier run left; blocks are matched in their order."""
    model = PocketGlip(config)
    teacher = {name: tensor.float() for name, tensor in load_file(TEACHER).items()}
    model.trunk.load_state_dict(_under("image.", teacher))
    if start is not None:
        left = load_file(start)
        if config.fused and not any(name.startswith("head.dyhead_tower.0.b_attn") for name in left):
            left = {_after_fusion(name): tensor for name, tensor in left.items()}
        strange = model.load_state_dict(left, strict=False).unexpected_keys
        if strange:
            raise ValueError(f"{start} holds {strange[0]}, which this network has not")
    return model


def _after_fusion(name: str) -> str:
    """The name of a block without deep fusion, where every block has a fusion and a text layer before it."""
    head, tower = "head.dyhead_tower.", name.removeprefix("head.dyhead_tower.")
    if tower == name:
        return name
    block, _, rest = tower.partition(".")
    return f"{head}{3 * int(block) + 2}.{rest}"


@torch.no_grad()
def taught(drawings: Drawings) -> NDArray[np.float32]:
    """What ``unicl-pocket`` says of every drawing, alone on white: unit rows ``(N, 256)``.

    Styles that do not train have zeros.
    """
    teacher = load_teacher(TEACHER)
    drawn = np.concatenate([rows for style in TRAIN_STYLES for rows in drawings.of[style]])
    taught = np.zeros((len(drawings.images), DIM), np.float32)
    for part in np.array_split(drawn, len(drawn) // 256 + 1):
        taught[part] = teacher.embed_images(flattened(torch.from_numpy(drawings.images[part]), SIZE, None)).numpy()
    return taught


def _optimizer(model: PocketGlip, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, object]] = []
    for trunk in (False, True):
        for matrices in (False, True):
            own = [
                parameter for name, parameter in model.named_parameters()
                if parameter.requires_grad and name.startswith("trunk.") == trunk and (parameter.ndim >= 2) == matrices
            ]  # fmt: skip
            decay = recipe.weight_decay if matrices else 0.0
            groups.append({"params": own, "weight_decay": decay, "share": recipe.trunk if trunk else 1.0})
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def train(drawings: Drawings, recipe: Recipe, out: Path, *, every: int = 50, save_every: int = 200) -> PocketGlip:
    """Run the recipe, from the checkpoint of ``out`` if there is one, and return the averaged network.

    ``train.jsonl`` gets a line every ``every`` steps, ``recipe.json`` what was asked for.
    """
    trainer = Trainer(drawings, recipe)
    if (out / CHECKPOINT).exists():
        trainer.resume(out)
    told = asdict(recipe) | {"start": Path(recipe.start).parent.name if recipe.start else ""}
    (out / "recipe.json").write_text(json.dumps(told, indent=1) + "\n")

    before, begin = trainer.spent, time.perf_counter()
    seen: list[list[float]] = []
    with (out / "train.jsonl").open("a") as log:
        while trainer.step < recipe.steps:
            seen.append([number.item() for number in trainer.one_step()])
            trainer.spent = before + time.perf_counter() - begin
            if trainer.step % every == 0:
                means = dict(zip(Losses._fields, np.mean(seen, axis=0).round(4).tolist(), strict=True))
                line = {"step": trainer.step, "scenes": trainer.step * recipe.batch, **means}
                print(json.dumps(line | {"minutes": round(trainer.spent / 60, 2)}), file=log, flush=True)
                seen.clear()
            if trainer.step % save_every == 0:
                trainer.save(out)
    trainer.save(out)
    return trainer.average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of `sightline datasets build pictographs`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--no-fusion", action="store_true", help="the text is read by the last product alone")
    parser.add_argument("--start", default="", help="weights of an earlier run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe (JSON)")

    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    asked = [change.partition("=") for change in options.set]
    changes = {name: json.loads(value) for name, _, value in asked}
    recipe = Recipe(steps=options.steps, fused=not options.no_fusion, start=options.start, **changes)
    train(Drawings(options.data), recipe, options.out)


if __name__ == "__main__":
    main()
