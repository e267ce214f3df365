"""Render every concept in every style at 64 pixels, split them, and write one folder that training and measures read.

Which style is for what: :data:`TRAIN_STYLES` train, :data:`VALIDATION_STYLE` chooses between recipes, and
:data:`TEST_STYLES` are for measuring only. Fluent's flat style is left out: it is nearly a pixel copy of the 3D style
and would leak the test. Titled drawings (clip art, icons) bring more words; those that name an unseen concept are
dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from models.progress import Progress, silent
from models.unicl.pocket.clipart import icon_title, titled_files
from models.unicl.pocket.concepts import Concept, code_of, read_concepts
from models.unicl.pocket.drawings import Drawing, icon_set, is_small, matched, render
from models.unicl.pocket.split import Names, draw_unseen, families

TRAIN_STYLES = ("noto", "twemoji", "noto-v1", "emojione", "streamline")
VALIDATION_STYLE = "fxemoji"
TEST_STYLES = ("fluent-3d", "openmoji")
STYLES = (*TRAIN_STYLES, VALIDATION_STYLE, *TEST_STYLES)
TITLED = len(STYLES)
"""The style number of drawings that have a title instead of a concept."""

TEST_PHOTOS = ("chelsea", "coffee", "rocket")
"""Backgrounds that only measures use."""
TRAIN_PHOTOS = (
    "astronaut", "brick", "camera", "cell", "coins", "grass", "gravel", "hubble_deep_field", "ihc", "motorcycle_left",
    "moon", "page", "retina",
)  # fmt: skip
PHOTO_SIDE = 192

IMAGES, ICONS = "images", "icons.json"
"""What ``sources.lock`` calls a folder of pictures and an icon set."""


TITLED_SOURCES = ("flat-color-icons", "game-icons")
CLIPART = "clipart"


@dataclass(frozen=True, slots=True)
class Summary:
    """How much was rendered."""

    concepts: int
    core: int
    unseen: int
    families: int
    images: dict[str, int]


def build(sources: Mapping[str, Path], into: Path, progress: Progress = silent) -> Summary:
    """Write ``pictographs.safetensors`` (``images (N, 64, 64, 4) uint8``, ``concept (N,)`` or -1, ``style (N,)``,
    ``title (N,)`` or -1, and the photos) and ``pictographs.json`` (concepts, split, styles, titles).

    ``sources`` are the fetched folders by their id in ``sources.lock``; without ``clipart`` there are fewer titled
    drawings, and nothing else changes. The same sources give the same bytes.
    """
    fluent = {code_of(path.stem): path for path in sorted((sources["fluent-3d"] / IMAGES).glob("*.webp"))}
    openmoji = {code_of(path.stem): path for path in sorted((sources["openmoji"] / IMAGES).glob("*.svg"))}
    concepts = read_concepts(sources["noto"] / "emoji.json", sources["emojilib"] / "keywords.json", [fluent, openmoji])
    files: dict[str, Callable[[Concept], Path | None]] = {
        "noto": lambda concept: sources["noto"] / IMAGES / concept.image,
        "twemoji": lambda concept: sources["twemoji"] / IMAGES / concept.image,
        "fluent-3d": lambda concept: fluent.get(concept.code) if concept.core else None,
        "openmoji": lambda concept: openmoji.get(concept.code) if concept.core else None,
    }
    images: list[Drawing] = []
    owner: list[int] = []
    style: list[int] = []
    for number, name in enumerate(STYLES):
        drawn = _files(concepts, files[name]) if name in files else _icons(concepts, sources[name] / ICONS)
        progress(f"render {name}", number, len(STYLES) + 1)
        for index, draw in drawn:
            images.append(draw())
            owner.append(index)
            style.append(number)

    grouped = families(concepts, pixels(np.stack(images[: len(concepts)])))  # the Noto drawings, one a concept
    unseen = draw_unseen(grouped)
    titles: list[str] = []
    title: list[int] = [-1] * len(images)
    hidden = Names(concepts[index] for index in unseen)
    progress("render titled drawings", len(STYLES), len(STYLES) + 1)
    for said, draw in _titled(sources):
        if hidden.named_in(said) or not (drawing := draw())[..., 3].any():
            continue
        if said not in titles[-1:]:  # neighbours of one title are one caption
            titles.append(said)
        images.append(drawing)
        owner.append(-1)
        style.append(TITLED)
        title.append(len(titles) - 1)

    progress("write", len(STYLES) + 1, len(STYLES) + 1)
    arrays: dict[str, NDArray[Any]] = {
        "images": np.stack(images),
        "concept": np.array(owner, np.int32),
        "style": np.array(style, np.int32),
        "title": np.array(title, np.int32),
        "photos": photos(sources["photos"], TRAIN_PHOTOS),
        "test_photos": photos(sources["photos"], TEST_PHOTOS),
    }
    into.mkdir(parents=True, exist_ok=True)
    save_file(arrays, into / "pictographs.safetensors")
    meta = {
        "styles": [*STYLES, "titled"],
        "concepts": [asdict(concept) | {"unseen": index in unseen} for index, concept in enumerate(concepts)],
        "texts": [concept.texts() for concept in concepts],
        "families": grouped,
        "titles": titles,
    }
    (into / "pictographs.json").write_text(json.dumps(meta, indent=0, ensure_ascii=False) + "\n", "utf-8")
    counts = {name: style.count(number) for number, name in enumerate([*STYLES, "titled"])}
    return Summary(len(concepts), sum(c.core for c in concepts), len(unseen), len(grouped), counts)


def pixels(drawings: NDArray[np.uint8], side: int = 16) -> NDArray[np.float32]:
    """Unit rows of what drawings look like on white, coarsely: the yardstick of near copies and of the pixel rows."""
    rgba = drawings.astype(np.float32) / 255
    flat = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    step = drawings.shape[1] // side
    blocks = flat.reshape(len(flat), side, step, side, step, 3)

    coarse = blocks.mean(axis=(2, 4)).reshape(len(flat), -1)
    coarse -= coarse.mean(axis=1, keepdims=True)
    length = np.linalg.norm(coarse, axis=1, keepdims=True)
    rows: NDArray[np.float32] = np.divide(coarse, np.maximum(length, 1e-6))
    return rows


def photos(folder: Path, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """``(N, 3, 192, 192)`` centre squares of the photos, for backgrounds."""
    found = []
    for name in names:
        path = next(path for path in (folder / f"{name}.png", folder / f"{name}.jpg") if path.exists())
        with Image.open(path) as picture:
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            square = picture.convert("RGB").crop((left, top, left + side, top + side))
            found.append(np.asarray(square.resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC)))
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2))


def _files(
    concepts: list[Concept], find: Callable[[Concept], Path | None]
) -> Iterator[tuple[int, Callable[[], Drawing]]]:
    for index, concept in enumerate(concepts):
        path = find(concept)
        if path is not None and path.exists():
            yield index, lambda path=path: render(path)  # type: ignore[misc]


def _icons(concepts: list[Concept], path: Path) -> Iterator[tuple[int, Callable[[], Drawing]]]:
    icons = icon_set(path)
    for name, index in matched(icons, concepts).items():
        yield index, icons[name]


def _titled(sources: Mapping[str, Path]) -> Iterator[tuple[str, Callable[[], Drawing]]]:
    for name in TITLED_SOURCES:
        for icon, draw in icon_set(sources[name] / ICONS).items():
            yield icon_title(icon), draw
    if CLIPART in sources:
        for path, title in titled_files(sources[CLIPART] / IMAGES):
            if is_small(path):
                yield title, lambda path=path: render(path)  # type: ignore[misc]
