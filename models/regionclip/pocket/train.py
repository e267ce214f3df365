"""Region-text pretraining of the small RegionCLIP (arXiv 2112.09106, section 3.2), and its fine-tuning.

``python -m models.regionclip.pocket.train --data DIR --repository DIR --start RUN/glip-pocket.safetensors --out DIR
--steps N`` learns from scenes without their boxes and names: regions are what the proposal network finds, concepts are
the names that training knows, and the teacher is ``unicl-pocket`` on what is cut out of the picture. ``--finetune``
goes on with true boxes and names, from the weights that ``--regions`` names. The trunk stays as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.glip.pocket.batches import boxes_of, pictures
from models.glip.pocket.captions import Composer
from models.glip.pocket.drawings import Drawings
from models.glip.pocket.export import load as load_glip
from models.glip.pocket.measures import suppressed
from models.glip.pocket.scenes import SIDE, Scene
from models.regionclip.losses import distillation, image_text_contrastive, pseudo_labels, region_text_contrastive
from models.regionclip.pocket.network import PocketRegionClip, RegionHead
from models.unicl.pocket.build import TRAIN_STYLES
from models.unicl.pocket.export import WEIGHTS as TEACHER
from models.unicl.pocket.network import SIZE, PocketUniCL
from models.unicl.pocket.network import load as load_teacher
from models.unicl.pocket.texts import Texts

WEIGHTS = "regionclip-pocket.safetensors"
REGIONS = 10
"""Proposals of a scene that are learned from."""
MARGIN = 0.1
"""By which what the teacher sees is wider than the region."""


@dataclass(frozen=True)
class Recipe:
    """``temperature`` is that of ``unicl-pocket``; ``weights`` those of the three losses: contrastive, distillation,
    and of pictures with captions."""

    steps: int
    finetune: bool = False
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    temperature: float = 1 / 27.23
    least: float = 0.1
    weights: tuple[float, float, float] = (1.0, 1.0, 0.3)
    seed: int = 0


class Trainer:
    """One run of either kind."""

    def __init__(
        self, drawings: Drawings, recipe: Recipe, start: Path, regions: Path | None, texts: Texts | None
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.drawings, self._texts = recipe, drawings, texts
        self.teacher: PocketUniCL = load_teacher(TEACHER)
        self.model = PocketRegionClip(load_glip(start), RegionHead(self.teacher.image))
        if regions is not None:
            self.model.load_state_dict(load_file(regions))
        self.model.proposals.requires_grad_(False)

        self._composer = Composer(drawings, drawings.trained, TRAIN_STYLES, training=True)
        self.concepts = torch.from_numpy(drawings.name_rows[drawings.trained])
        self._number = {int(concept): place for place, concept in enumerate(drawings.trained)}
        self.optimizer = torch.optim.AdamW(
            self.model.regions.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=(0.9, 0.98),
        )
        self.step = 0

    def one_step(self) -> dict[str, float]:
        """Take one step and return its losses."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            warm, done = min(1, (self.step + 1) / 30), self.step / recipe.steps
            group["lr"] = recipe.learning_rate * warm * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        rng = np.random.default_rng([recipe.seed, self.step, 1 + recipe.finetune])
        scenes = [scene for scene in (self._composer.scene(rng) for _ in range(recipe.batch)) if scene.things]
        images = pictures([scene.picture for scene in scenes])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features, deltas, centre, objectness = self.model.features(images)
        features = features.float()

        if recipe.finetune:
            lost = self._named(scenes, features, rng)
        else:
            found = self._proposals(deltas.float(), (centre.sigmoid() * objectness.sigmoid()).sqrt().float())
            lost = self._taught(scenes, features, found)
        total = torch.stack(list(lost.values())).sum()
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.model.regions.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return {name: value.item() for name, value in lost.items()}

    def _proposals(self, deltas: Tensor, scores: Tensor) -> list[NDArray[np.float64]]:
        """The surest boxes of each scene, edges outside, ``(n, 4)``."""
        kept = []
        for own, score in zip(boxes_of(deltas), scores.double().numpy(), strict=True):
            best = suppressed(own, score, most=REGIONS, least=0.05)
            best = best[((own[best, 2:] - own[best, :2]) >= 8).all(axis=1)]
            kept.append(own[best])
        return kept

    def _taught(self, scenes: list[Scene], features: Tensor, found: list[NDArray[np.float64]]) -> dict[str, Tensor]:
        """The three losses of region-text pretraining: no box and no name of the scenes is looked at."""
        recipe, temperature = self.recipe, self.recipe.temperature
        with torch.no_grad():
            crops = cuts([scene.picture for scene in scenes], found)
            said = torch.cat([self.teacher.embed_images(part) for part in crops.split(64)])
        matched = pseudo_labels(said, self.concepts, least=recipe.least, temperature=temperature)
        whole = [np.array([[0, 0, SIDE, SIDE]], np.float64)] * len(scenes)
        vectors = self.model.regions(features, rois([*found]))
        own = vectors[matched.kept]

        names = [", ".join(dict.fromkeys(self.drawings.names[t.concept] for t in scene.things)) for scene in scenes]
        assert self._texts is not None
        captions = torch.from_numpy(self._texts([f"a picture of {name}" for name in names]))
        seen = self.model.regions(features, rois(whole))
        contrastive, distil, picture = recipe.weights
        return {
            "contrastive": contrastive * region_text_contrastive(
                own, self.concepts[matched.concepts], matched.concepts, temperature=temperature
            ),
            "distil": distil * distillation(own, self.concepts, matched.probabilities, temperature=temperature),
            "caption": picture * image_text_contrastive(seen, captions, temperature=temperature),
        }  # fmt: skip

    def _named(self, scenes: list[Scene], features: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Cross-entropy of true boxes, moved by up to a tenth, over all names that training knows."""
        boxes, names = [], []
        for scene in scenes:
            own = np.array([thing.box for thing in scene.things], np.float64)
            sides = np.tile(own[:, 2:] - own[:, :2], 2)
            boxes.append((own + sides * rng.uniform(-0.1, 0.1, own.shape)).clip(0, SIDE))
            names += [self._number[thing.concept] for thing in scene.things]
        vectors = self.model.regions(features, rois(boxes))
        logits = vectors @ self.concepts.T / self.recipe.temperature
        return {"names": F.cross_entropy(logits, torch.tensor(names))}


def rois(boxes: list[NDArray[np.float64]]) -> Tensor:
    """Boxes of each picture to ``(N, 5)``: its number, then the edges."""
    numbered = [np.concatenate([np.full((len(own), 1), place), own], axis=1) for place, own in enumerate(boxes)]
    return torch.from_numpy(np.concatenate(numbered).astype(np.float32))


def cuts(scenes: list[NDArray[np.uint8]], boxes: list[NDArray[np.float64]]) -> Tensor:
    """What the teacher sees of each box: cut out a little wider and scaled to its size, ``(N, 3, 48, 48)`` in 0..1."""
    from PIL import Image

    parts = []
    for scene, own in zip(scenes, boxes, strict=True):
        picture = Image.fromarray(scene)
        for left, top, right, bottom in own:
            wide, high = (right - left) * MARGIN / 2, (bottom - top) * MARGIN / 2
            extent = (left - wide, top - high, right + wide, bottom + high)
            parts.append(picture.transform((SIZE, SIZE), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR))
    return torch.from_numpy(np.stack([np.asarray(part) for part in parts])).permute(0, 3, 1, 2).float() / 255


def train(trainer: Trainer, out: Path, *, every: int = 25) -> None:
    """Run the recipe; writes the weights, ``recipe.json`` and a line of ``train.jsonl`` every few steps."""
    recipe = trainer.recipe
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    begin, seen = time.perf_counter(), []
    with (out / "train.jsonl").open("w") as log:
        while trainer.step < recipe.steps:
            seen.append(trainer.one_step())
            if trainer.step % every == 0:
                means = {name: round(float(np.mean([line[name] for line in seen])), 4) for name in seen[0]}
                minutes = round((time.perf_counter() - begin) / 60, 2)
                line = {"step": trainer.step, "scenes": trainer.step * recipe.batch, **means, "minutes": minutes}
                print(json.dumps(line), file=log, flush=True)
                seen.clear()
                save_file(trainer.model.state_dict(), out / WEIGHTS)
    save_file(trainer.model.state_dict(), out / WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of `sightline datasets build pictographs`")
    parser.add_argument("--repository", type=Path, required=True, help="model repository with unicl-pocket-text")
    parser.add_argument("--start", type=Path, required=True, help="weights of glip-pocket without fusion")
    parser.add_argument("--regions", type=Path, help="weights of an earlier run of this")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--finetune", action="store_true", help="with true boxes and names")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe (JSON)")

    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    asked = [change.partition("=") for change in options.set]
    changes = {name: json.loads(value) for name, _, value in asked}
    recipe = Recipe(steps=options.steps, finetune=options.finetune, **changes)
    texts = Texts(options.repository / "unicl-pocket-text" / "1", "text_embedding", options.threads)
    train(Trainer(Drawings(options.data), recipe, options.start, options.regions, texts), options.out)


if __name__ == "__main__":
    main()
