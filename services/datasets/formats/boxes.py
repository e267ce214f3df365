"""Boxes as files write them, to ``xyxy`` in pixels or in shares of the image's sides; a text says why one is none."""

from __future__ import annotations

import math
from typing import Any

XYXY = tuple[float, float, float, float]


def numbers(value: Any, count: int | None = None) -> list[float] | None:
    """Finite numbers below 10 million, ``count`` of them; ``None`` for anything else."""
    if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
        return None
    plain = [float(one) for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(plain) != len(value) or not all(abs(one) < 1e7 for one in plain):  # NaN fails the comparison
        return None
    return plain


def xyxy_of_coco(value: Any, *, corners: bool, size: tuple[float, float] | None) -> XYXY | str:
    """A COCO box ``x, y, w, h`` (or two ``corners``), cut to the image of ``size``."""
    found = numbers(value, 4)
    if found is None:
        return f"bbox {value!r} is not four numbers"
    x0, y0, a, b = found
    return cut((x0, y0, a, b) if corners else (x0, y0, x0 + a, y0 + b), size, shown=f"bbox {value!r}")


def xyxy_of_polygons(value: Any, *, size: tuple[float, float] | None) -> XYXY | str:
    """The box around polygons: a list of ``x, y, x, y, ...``, or a list of such lists."""
    rings = value if value and isinstance(value[0], list) else [value]
    found = [ring for ring in (numbers(ring) for ring in rings) if ring is not None and len(ring) >= 6]
    if len(found) != len(rings):
        return "its segmentation is no polygon"
    xs = [x for ring in found for x in ring[0::2]]
    ys = [y for ring in found for y in ring[1::2]]
    return cut((min(xs), min(ys), max(xs), max(ys)), size, shown="the polygon")


def xyxy_of_rle(value: Any, *, size: tuple[float, float] | None) -> XYXY | str:
    """The box around a mask in run lengths, COCO's ``{"counts", "size"}``: a list, or its compressed text.

    Runs go down the columns, of nothing and of the mask in turn (pycocotools ``maskApi.c``).
    """
    shape = numbers(value.get("size"), 2)
    if shape is None or min(shape) < 1:
        return "its mask has no size"
    high = int(shape[0])
    counts = value.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else numbers(counts)
    if runs is None or any(run < 0 for run in runs) or sum(runs) > shape[0] * shape[1]:
        return "the counts of its mask are no run lengths"

    edges: list[tuple[int, int, int, int]] = []
    at = 0
    for number, run in enumerate(runs):
        begin, at = at, at + int(run)
        if number % 2 and at > begin:
            left, right = begin // high, (at - 1) // high
            top, bottom = (begin % high, (at - 1) % high + 1) if left == right else (0, high)
            edges.append((left, top, right + 1, bottom))
    if not edges:
        return "its mask is empty"
    box = (min(e[0] for e in edges), min(e[1] for e in edges), max(e[2] for e in edges), max(e[3] for e in edges))
    return cut((float(box[0]), float(box[1]), float(box[2]), float(box[3])), size, shown="the mask")


def _decompressed(text: str) -> list[float] | None:
    """Run lengths of COCO's text: five bits a character, each number less the last but one from the fourth on."""
    runs: list[float] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if shift == 0 else None


def xyxy_of_yolo(values: list[float]) -> XYXY | str:
    """A YOLO line without its class: ``cx cy w h``, or a polygon ``x y x y ...``; in shares of the image's sides."""
    if len(values) == 4:
        x, y, w, h = values
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        box = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    else:
        return f"{len(values)} numbers are neither a box nor a polygon"
    if not all(-0.01 <= side <= 1.01 for side in box):
        return "its numbers are not shares of the image's sides, from 0 to 1"
    return cut(box, (1.0, 1.0), shown="the box")


def cut(box: XYXY, size: tuple[float, float] | None, *, shown: str) -> XYXY | str:
    """``box`` within an image of ``size``; without area there it is none."""
    x0, y0, x1, y1 = box
    if not all(math.isfinite(side) for side in box):
        return f"{shown} is not four numbers"
    if size is not None:
        x0, x1 = max(0.0, x0), min(size[0], x1)
        y0, y1 = max(0.0, y0), min(size[1], y1)
    if x1 <= x0 or y1 <= y0:
        return f"{shown} has no area inside the image"
    return x0, y0, x1, y1
