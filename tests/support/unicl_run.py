"""A tiny UniCL training run: coloured squares with names and captions, in files as a user would have them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from models.backbones.focalnet import FocalNetConfig
from models.text.clip_transformer import ClipTextConfig
from models.unicl.config_file import to_json
from models.unicl.data import CropAndFlip, ImageTextLabel
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.tokens import from_file
from models.unicl.train import Recipe, train

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
WORDS = ["<pad>", *COLOURS, "a", "photo", "of", "square", "<start>", "<end>"]
CONFIG = UniCLConfig(
    FocalNetConfig(embed_dim=8, depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3), num_classes=0),
    ClipTextConfig(vocab_size=len(WORDS), context_length=8, width=16, heads=2, layers=1),
    dim=12,
)
RECIPE = Recipe(steps=12, batch_size=8, learning_rate=3e-3, warmup=2, save_every=4, seed=5)
SIZE = 16


def write_inputs(folder: Path) -> Path:
    """``data/``, ``model.json`` and ``tokenizer.json`` in ``folder``."""
    data = folder / "data"
    data.mkdir(parents=True)
    lines = []
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(6):
            pixels = np.clip(np.full((20, 24, 3), colour) + generator.integers(-20, 20, (20, 24, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(data / f"{name}{number}.png")
            text = {"caption": f"a {name} square"} if number % 3 == 0 else {"label": name, "names": [name]}
            lines.append(json.dumps({"image": f"{name}{number}.png", **text}))
    (data / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "model.json").write_text(to_json(CONFIG), encoding="utf-8")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, WORDS.index(word)) for word in ("<start>", "<end>")]
    words.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    words.save(str(folder / "tokenizer.json"))
    return folder


def run(
    inputs: Path, out: Path, recipe: Recipe = RECIPE, *, stop_after: int | None = None, drop_path: float = 0.1
) -> list[float]:
    """Train in this process; ``stop_after`` ends it between two steps, with nothing tidied up. The losses."""
    config = replace(CONFIG, image=replace(CONFIG.image, drop_path=drop_path))
    torch.manual_seed(recipe.seed)
    data = ImageTextLabel(inputs / "data", CropAndFlip(SIZE), ["a {} square", "a photo of {}"], recipe.seed)
    tokenise = from_file(inputs / "tokenizer.json", CONFIG.text.context_length, CONFIG.text.vocab_size)
    losses = []
    steps = train(UniCL(config), data, tokenise, recipe, out, torch.device("cpu"))
    for step in steps:
        losses.append(step.loss)
        if step.step + 1 == stop_after:
            break
    return losses
