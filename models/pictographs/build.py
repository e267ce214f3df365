"""Render every concept in every style at 64 pixels and write one safetensors file of them.

Styles: Noto (Apache-2.0) and Twemoji (CC-BY-4.0) train; Fluent 3D (MIT) and OpenMoji (CC-BY-SA-4.0) are for
measuring only and never trained on; clip art of openclipart (public domain) brings more concepts with its titles.
Fluent's flat style is left out: it is nearly a pixel copy of its 3D style and would leak the test.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from models.pictographs.concepts import Concept, code_of, read_concepts

SIZE = 64
TRAIN_STYLES = ("noto", "twemoji")
TEST_STYLES = ("fluent-3d", "openmoji")
STYLES = TRAIN_STYLES + TEST_STYLES


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders of the unpacked packages; ``clipart`` may be absent."""

    noto: Path
    twemoji: Path
    fluent: Path
    openmoji: Path
    emojilib: Path
    clipart: Path | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How much was rendered."""

    concepts: int
    core: int
    unseen: int
    images: dict[str, int]


def build(sources: Sources, into: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Summary:
    """Write ``pictographs.safetensors`` (``images (N, 64, 64, 4) uint8``, ``concept (N,)``,
    ``style (N,)``; clip art has concept -1) and ``pictographs.json`` (concepts, styles, clip art titles)."""
    fluent = {code_of(path.stem): path for path in sorted((sources.fluent / "assets").glob("*.webp"))}
    openmoji = {code_of(path.stem): path for path in sorted((sources.openmoji / "color/svg").glob("*.svg"))}
    concepts = read_concepts(
        sources.noto / "emoji.json", sources.emojilib / "dist/emoji-en-US.json", [set(fluent), set(openmoji)]
    )
    found: dict[str, Callable[[Concept], Path | None]] = {
        "noto": lambda concept: sources.noto / "img/google/64" / concept.image,
        "twemoji": lambda concept: sources.twemoji / "img/twitter/64" / concept.image,
        "fluent-3d": lambda concept: fluent.get(concept.code),
        "openmoji": lambda concept: openmoji.get(concept.code),
    }
    images: list[NDArray[np.uint8]] = []
    owner: list[int] = []
    style: list[int] = []
    total = len(STYLES) * len(concepts)
    for style_index, name in enumerate(STYLES):
        for index, concept in enumerate(concepts):
            progress(style_index * len(concepts) + index, total)
            path = found[name](concept)
            if path is not None and path.exists():
                images.append(render(path))
                owner.append(index)
                style.append(style_index)
    titles: list[str] = []
    for path, title in _clipart(sources.clipart):
        if not _is_small(path):
            continue
        images.append(render(path))
        owner.append(-1)
        style.append(len(STYLES))
        titles.append(title)
    progress(total, total)
    into.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "images": np.stack(images),
            "concept": np.array(owner, np.int32),
            "style": np.array(style, np.int32),
        },
        into / "pictographs.safetensors",
    )
    meta = {"styles": [*STYLES, "clipart"], "concepts": [asdict(concept) for concept in concepts], "titles": titles}
    (into / "pictographs.json").write_text(json.dumps(meta))
    counts = {name: style.count(index) for index, name in enumerate([*STYLES, "clipart"])}
    return Summary(len(concepts), sum(c.core for c in concepts), sum(c.unseen for c in concepts), counts)


def render(path: Path) -> NDArray[np.uint8]:
    """A picture file as ``(64, 64, 4) uint8`` RGBA, fitted whole and centred."""
    if path.suffix == ".svg":
        import resvg_py  # renders vector pictures; only the builder needs it

        data = bytes(resvg_py.svg_to_bytes(svg_string=path.read_text(), width=2 * SIZE, height=2 * SIZE))
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
    else:
        picture = Image.open(path).convert("RGBA")
    # Resizing colours of transparent pixels bleeds them into the edges: do it premultiplied.
    picture.thumbnail((SIZE, SIZE), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    return np.asarray(canvas)


MAX_PIXELS = 4_000_000


def _is_small(path: Path) -> bool:
    """Whether a picture is worth decoding: a few posters of hundreds of megapixels lie among the clip art."""
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height <= MAX_PIXELS
    except (Image.DecompressionBombError, OSError):
        return False


AUTHOR = re.compile(r"(_[a-z]+){1,3}_(\d+|[a-z])\w?$")
SKIPPED = ("flags", "signs_and_symbols/led", "computer/icons", "geography", "unsorted")
"""Folders of clip art whose titles do not describe the picture."""


def _clipart(folder: Path | None) -> Iterable[tuple[Path, str]]:
    if folder is None:
        return
    for path in sorted(folder.rglob("*.png")):
        place = path.relative_to(folder)
        if str(place).startswith(SKIPPED):
            continue
        words = [word for word in re.split(r"[_\W\d]+", AUTHOR.sub("", path.stem)) if len(word) > 2]
        if words:
            yield path, f"{' '.join(words[:5])}, {place.parent.name.replace('_', ' ')}".lower()
