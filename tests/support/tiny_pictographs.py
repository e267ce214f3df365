"""A handful of made-up pictographs in the layout of the fetched packages, drawn here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from models.unicl.pocket.build import TEST_PHOTOS, TRAIN_PHOTOS

NAMES = {
    "1F34E": ("red apple", "Food & Drink"),
    "1F34F": ("green apple", "Food & Drink"),
    "1F3B8": ("guitar", "Activities"),
    "1F680": ("rocket", "Travel & Places"),
    "1F41F": ("fish", "Animals & Nature"),
    "2B50": ("star", "Symbols"),
    "1F511": ("key", "Objects"),
    "1F33B": ("sunflower", "Animals & Nature"),
    "1F355": ("pizza", "Food & Drink"),
    "1F682": ("locomotive", "Travel & Places"),
    "1F44D": ("thumbs up", "People & Body"),
}
ICONS = ("noto-v1", "emojione", "streamline", "fxemoji")
PNG = {"noto": 0, "twemoji": 1}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{}</svg>'


def sources(root: Path) -> Mapping[str, Path]:
    """Folders of every source by its id, clip art among them."""
    folders = {name: root / name for name in ("noto", "twemoji", "fluent-3d", "openmoji", "emojilib", "photos")}
    folders |= {name: root / name for name in (*ICONS, "game-icons", "flat-color-icons", "clipart")}
    for folder in folders.values():
        (folder / "images").mkdir(parents=True)
    rows = [_row(code, name, category) for code, (name, category) in NAMES.items()]
    (folders["noto"] / "emoji.json").write_text(json.dumps(rows))
    keywords = {chr(int(code, 16)): [name.replace(" ", "_"), "thing", "drawn"] for code, (name, _) in NAMES.items()}
    (folders["emojilib"] / "keywords.json").write_text(json.dumps(keywords))
    for seed, code in enumerate(NAMES):
        for style, shift in PNG.items():
            _drawing(seed, shift).save(folders[style] / "images" / f"{code.lower()}.png")
        _drawing(seed, 2).save(folders["fluent-3d"] / "images" / f"{code.lower()}.webp", lossless=True)
        (folders["openmoji"] / "images" / f"{code}.svg").write_text(SVG.format(_body(seed)))
    icons = {name.replace(" ", "-"): {"body": _body(seed)} for seed, (name, _) in enumerate(NAMES.values())}
    for style in ICONS:
        _icon_set(folders[style], icons)
    _icon_set(folders["game-icons"], {f"ancient-{name}": icon for name, icon in icons.items()})
    _icon_set(folders["flat-color-icons"], {"anvil": {"body": _body(3)}, "empty": {"body": ""}})
    art = folders["clipart"] / "images" / "tools"
    art.mkdir()
    _drawing(5, 3).save(art / "hammer_jo_doe_01.png")
    for seed, name in enumerate((*TRAIN_PHOTOS, *TEST_PHOTOS)):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(folders["photos"] / f"{name}.png")
    return folders


def texts(folder: Path) -> None:
    """Random embeddings in place of MiniLM's for the set in ``folder``."""
    meta = json.loads((folder / "pictographs.json").read_text())
    counts = [len(said) for said in meta["texts"]]
    rng = np.random.default_rng(0)
    subcategories = {concept["subcategory"] for concept in meta["concepts"]}
    save_file(
        {
            "concepts": rng.standard_normal((sum(counts), 384)).astype(np.float32),
            "concept_start": np.cumsum([0, *counts]).astype(np.int32),
            "titles": rng.standard_normal((len(meta["titles"]), 384)).astype(np.float32),
            "subcategories": rng.standard_normal((len(subcategories), 384)).astype(np.float32),
        },
        folder / "texts.safetensors",
    )


def _row(code: str, name: str, category: str) -> dict[str, object]:
    return {
        "unified": code, "image": f"{code.lower()}.png", "name": name.upper(), "short_names": [name.replace(" ", "_")],
        "category": category, "subcategory": "a-kind", "has_img_google": True, "has_img_twitter": True,
    }  # fmt: skip


def _drawing(seed: int, shift: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    picture = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(picture)
    for _ in range(4):
        left, top = (int(v) for v in rng.integers(0, 36, 2))
        colour = (*(int(v) for v in rng.integers(0, 256, 3)), 255)
        pen.rectangle((left + shift, top, left + shift + 20, top + 20), fill=colour)
    return picture


def _body(seed: int) -> str:
    rng = np.random.default_rng(seed)
    x, y, red = (int(v) for v in rng.integers(4, 60, 3))
    return f'<circle cx="{x}" cy="{y}" r="12" fill="rgb({4 * red},90,40)"/>'


def _icon_set(folder: Path, icons: Mapping[str, Mapping[str, object]]) -> None:
    (folder / "icons.json").write_text(json.dumps({"width": 72, "height": 72, "icons": icons}))
