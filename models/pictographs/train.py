"""Train the pocket UniCL: a small FocalNet and a head on frozen MiniLM, in the image-text-label space of pictographs.

``python -m models.pictographs.train --data DIR --minilm DIR --out DIR [--minutes M]``. Noto and Twemoji drawings of
the seen concepts carry labels, clip art carries titles (each a class of its own, as UniCL treats captions).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.focalnet import FocalNet, FocalNetConfig
from models.pictographs.augment import Augment
from models.pictographs.build import TRAIN_STYLES

DIM = 256
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
IMAGE = FocalNetConfig(
    embed_dim=64, depths=(1, 2, 2), focal_levels=(2, 2, 2), focal_windows=(3, 3, 3),
    conv_embed=True, layerscale=True, layerscale_init=0.5, num_classes=DIM,
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Batches hold ``concepts`` concepts in both styles and ``captions`` clip arts; ``bank`` texts are negatives."""

    minutes: float = 60.0
    small_share: float = 0.6  # of the time at 32 pixels, the rest at 64
    concepts: int = 48
    captions: int = 32
    bank: int = 400
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    subcategory: float = 0.2
    ema: float = 0.998
    seed: int = 0
    unicl: bool = True  # false: plain CLIP, where two drawings of one concept repel each other


class TextHead(nn.Module):
    """Whitened MiniLM embedding ``(N, 384)`` to ``(N, DIM)``: a linear map and a residual MLP, unit length."""

    def __init__(self, mean: Tensor, whiten: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)
        width = whiten.shape[1]
        self.linear = nn.Linear(width, DIM)
        self.mlp = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Dropout(0.1), nn.Linear(512, DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) @ self.whiten
        return F.normalize(self.linear(x) + self.mlp(x), dim=-1)


class PocketUniCL(nn.Module):
    """Image tower, text head and temperature."""

    def __init__(self, mean: Tensor, whiten: Tensor) -> None:
        super().__init__()
        self.image = FocalNet(IMAGE)
        self.text = TextHead(mean, whiten)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


def whitening(embeddings: Tensor, shrink: float = 0.3) -> tuple[Tensor, Tensor]:
    """Mean and PCA whitening ``(384, 384)`` of text embeddings; ``shrink`` of the mean variance is added to each."""
    mean = embeddings.mean(dim=0)
    covariance = torch.cov((embeddings - mean).T)
    values, vectors = torch.linalg.eigh(covariance)
    values = (1 - shrink) * values + shrink * values.mean()
    return mean, vectors * values.clamp(min=1e-8).rsqrt()


def unicl_loss(image: Tensor, text: Tensor, image_ids: Tensor, text_ids: Tensor, scale: Tensor) -> Tensor:
    """Bidirectional contrastive loss (arXiv 2204.03610, equations 3 to 5); texts beyond the images are negatives.

    ``image (B, D)``, ``text (T, D)``, T >= B, the first B texts belong to the images.
    """
    logits = scale.exp() * image @ text.T
    same = (image_ids[:, None] == text_ids[None, :]).float()
    to_text = -(same / same.sum(1, keepdim=True) * logits.log_softmax(dim=1)).sum(1).mean()
    own, mine = logits[:, : len(image)].T, same[:, : len(image)].T
    to_image = -(mine / mine.sum(1, keepdim=True) * own.log_softmax(dim=1)).sum(1).mean()
    return (to_text + to_image) / 2


class Data:
    """The rendered set in memory, with the text embeddings of all that training may say."""

    def __init__(self, folder: Path, texts: dict[str, np.ndarray]) -> None:
        arrays = load_file(folder / "pictographs.safetensors")
        meta = json.loads((folder / "pictographs.json").read_text())
        self.images = torch.from_numpy(arrays["images"])
        self.concepts = meta["concepts"]
        owner, style = arrays["concept"], arrays["style"]
        self.place = {(int(c), int(s)): row for row, (c, s) in enumerate(zip(owner, style, strict=True)) if c >= 0}
        self.clipart = np.flatnonzero(owner < 0)
        self.seen = [index for index, concept in enumerate(self.concepts) if not concept["unseen"]]
        subcategories = sorted({concept["subcategory"] for concept in self.concepts})
        self.subcategory = torch.tensor([subcategories.index(c["subcategory"]) for c in self.concepts])
        self.mirror = torch.tensor([c["category"] != "Symbols" for c in self.concepts])
        self.concept_texts = [torch.from_numpy(texts[f"concept/{index}"]) for index in range(len(self.concepts))]
        self.title_texts = torch.from_numpy(texts["titles"])
        self.subcategory_texts = torch.from_numpy(texts["subcategories"])


def train(data: Data, photos: Tensor, recipe: Recipe, out: Path, compiled: bool = True) -> PocketUniCL:
    """Run the recipe for its minutes and return the averaged model; a line of progress every 200 steps in ``out``."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    augment = Augment(photos, torch.Generator().manual_seed(recipe.seed))
    seen_texts = torch.cat([data.concept_texts[index] for index in data.seen] + [data.title_texts])
    model = PocketUniCL(*whitening(seen_texts))
    average = PocketUniCL(*whitening(seen_texts))
    average.load_state_dict(model.state_dict())
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    tower = torch.compile(model.image, dynamic=False) if compiled else model.image
    begin, step, images, spent = time.perf_counter(), 0, 0, 0.0
    log = (out / "train.log").open("w")
    while (done := spent / (60 * recipe.minutes)) < 1:
        tick = time.perf_counter()
        size = 32 if done < recipe.small_share else 64
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * min(done, 1)))
        loss = _step(model, tower, data, augment, recipe, rng, size, strength=min(1.0, 0.25 + 1.5 * done))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
            keep = min(recipe.ema, (step + 1) / (step + 10))
            for mean, now in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        images += 2 * recipe.concepts + recipe.captions
        step += 1
        passed = time.perf_counter() - tick
        if passed < 20:  # compiling is not training
            spent += passed
        if step % 200 == 0:
            print(
                json.dumps({"step": step, "images": images, "size": size, "loss": round(loss.item(), 4),
                            "scale": round(model.logit_scale.exp().item(), 2), "minutes": round(spent / 60, 2),
                            "wall": round((time.perf_counter() - begin) / 60, 2)}),
                file=log, flush=True,
            )  # fmt: skip
    save_file(average.state_dict(), out / "unicl-pocket.safetensors")
    return average


def _step(
    model: PocketUniCL,
    tower: nn.Module,
    data: Data,
    augment: Augment,
    recipe: Recipe,
    rng: np.random.Generator,
    size: int,
    strength: float,
) -> Tensor:
    chosen = rng.choice(data.seen, recipe.concepts, replace=False)
    rows = [data.place[int(c), s] for s in range(len(TRAIN_STYLES)) for c in chosen]
    concepts = torch.from_numpy(np.tile(chosen, len(TRAIN_STYLES)))
    art = rng.choice(len(data.clipart), recipe.captions, replace=False)
    drawings = data.images[np.concatenate([rows, data.clipart[art]])]
    mirror = torch.cat([data.mirror[concepts], torch.ones(len(art), dtype=torch.bool)])
    pixels = (augment(drawings, size, strength, mirror) - MEAN[:, None, None]) / STD[:, None, None]
    bank = rng.choice(data.seen, recipe.bank, replace=False)
    said = [_any_text(data.concept_texts[int(c)], rng) for c in (*concepts.tolist(), *bank)]
    captions = data.title_texts[art]
    text_in = torch.cat([torch.stack(said[: len(rows)]), captions, torch.stack(said[len(rows) :])])
    fresh = len(data.concepts) + torch.arange(len(art))
    image_ids = torch.cat([concepts, fresh])
    text_ids = torch.cat([concepts, fresh, torch.from_numpy(bank)])
    if not recipe.unicl:  # every pair is a class of its own
        image_ids = torch.arange(len(image_ids))
        text_ids = torch.arange(len(text_ids))
    with torch.autocast("cpu", torch.bfloat16):
        features = tower(pixels)
    image = F.normalize(features.float(), dim=-1)
    loss = unicl_loss(image, model.text(text_in), image_ids, text_ids, model.logit_scale)
    if recipe.subcategory and recipe.unicl:
        ids = data.subcategory[concepts]
        names = model.text(data.subcategory_texts)
        logits = model.logit_scale.exp() * image[: len(concepts)] @ names.T
        loss = loss + recipe.subcategory * F.cross_entropy(logits, ids)
    return loss


def _any_text(texts: Tensor, rng: np.random.Generator) -> Tensor:
    """One way to say it; the plain name a third of the time."""
    return texts[0] if rng.random() < 1 / 3 else texts[int(rng.integers(len(texts)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of build.py's output")
    parser.add_argument("--texts", type=Path, required=True, help="embeddings of all texts (embed.py)")
    parser.add_argument("--photos", type=Path, required=True, help="photo backgrounds, safetensors")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clip", action="store_true", help="plain CLIP loss, for comparison")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data = Data(options.data, load_file(options.texts))
    photos = torch.from_numpy(load_file(options.photos)["photos"])
    recipe = Recipe(minutes=options.minutes, seed=options.seed, unicl=not options.clip)
    train(data, photos, recipe, options.out)


if __name__ == "__main__":
    main()
