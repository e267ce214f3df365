"""Pictures of the packages as 64-pixel RGBA: files, and the icon sets that come as one JSON of SVG bodies."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.unicl.pocket.concepts import Concept

SIZE = 64
MAX_PIXELS = 4_000_000

Drawing = NDArray[np.uint8]
"""``(64, 64, 4)`` RGBA."""


def render(path: Path) -> Drawing:
    """A picture file, fitted whole and centred."""
    if path.suffix == ".svg":
        return render_svg(path.read_text("utf-8"))
    with Image.open(path) as picture:
        return fitted(picture)


def render_svg(markup: str) -> Drawing:
    """A vector picture, drawn at twice the size and scaled down."""
    import resvg_py  # only the builder needs it

    data = bytes(resvg_py.svg_to_bytes(svg_string=markup, width=2 * SIZE, height=2 * SIZE, skip_system_fonts=True))
    with Image.open(io.BytesIO(data)) as picture:
        return fitted(picture)


def fitted(picture: Image.Image) -> Drawing:
    """Scaled to 64 pixels and centred; Pillow resizes with premultiplied alpha, so that nothing bleeds into edges."""
    picture = picture.convert("RGBA")
    scale = SIZE / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    return np.asarray(canvas)


def is_small(path: Path) -> bool:
    """Return whether a picture is worth decoding: a few posters of hundreds of megapixels lie among the clip art."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as picture,
        ):
            return picture.width * picture.height <= MAX_PIXELS
    except (Image.DecompressionBombError, OSError):
        return False


def icon_set(path: Path) -> dict[str, Callable[[], Drawing]]:
    """Every icon of an Iconify JSON file by its name, to be drawn when called."""
    content = json.loads(path.read_bytes())
    width, height = content.get("width", 16), content.get("height", 16)

    def drawn(icon: Mapping[str, object]) -> Callable[[], Drawing]:
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {icon.get('width', width)} {icon.get('height', height)}"
        namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return lambda: render_svg(f'<svg {namespaces} viewBox="{box}">{icon["body"]}</svg>')

    return {name: drawn(icon) for name, icon in content["icons"].items()}


def matched(names: Collection[str], concepts: list[Concept]) -> dict[str, int]:
    """Icon names that are the name of exactly one concept, with its index; numbered variants count as the name."""
    by_name: dict[str, set[int]] = {}
    for index, concept in enumerate(concepts):
        for said in {concept.name, *concept.short_names}:
            by_name.setdefault(_letters(said), set()).add(index)
    found = {name: by_name.get(_letters(re.sub(r"-\d$", "", name)), set()) for name in names}
    return {name: next(iter(indices)) for name, indices in found.items() if len(indices) == 1}


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
