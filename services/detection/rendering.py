"""Boxes drawn into a picture: a frame and a caption each, legible on any ground."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

from services.detection.protocol import Box
from services.media.image import Picture

LONGEST = 2048
"""Pixels of the longer side of what is drawn; larger pictures are scaled down."""

_COLOURS = (
    (230, 25, 75),
    (0, 110, 220),
    (20, 130, 50),
    (145, 30, 180),
    (190, 90, 0),
    (0, 128, 128),
    (200, 30, 160),
    (128, 0, 0),
    (90, 90, 0),
    (60, 60, 180),
)
"""Dark enough for white letters: contrast of 4.5 or more (WCAG 2.2)."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One box; those of one ``colour``, a number, get the same."""

    box: Box
    text: str
    colour: int


def render(picture: Picture, boxes: Sequence[Drawn]) -> bytes:
    """A JPEG of a picture that came as one, else a PNG, with ``boxes`` drawn in, the first on top. Call it in a thread.

    Captions stand above their box, inside it where there is no room, and inside the picture always.
    """
    scale = min(1.0, LONGEST / max(picture.width, picture.height))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    image = picture.image.copy() if size == picture.image.size else picture.image.resize(size, reducing_gap=2.0)
    pen = ImageDraw.Draw(image)
    line = max(1, round(max(size) / 320))
    font = ImageFont.load_default(max(12, round(max(size) / 45)))

    for drawn in reversed(boxes):
        colour = _COLOURS[drawn.colour % len(_COLOURS)]
        left, top, right, bottom = (edge * scale for edge in drawn.box)
        pen.rectangle((left, top, max(right, left), max(bottom, top)), outline=colour, width=line)

    for drawn in reversed(boxes):
        _caption(pen, drawn, scale, size, font)

    sink = io.BytesIO()
    if picture.format == "JPEG":
        image.save(sink, "JPEG", quality=90)
    else:
        image.save(sink, "PNG", compress_level=6)
    return sink.getvalue()


def _caption(
    pen: ImageDraw.ImageDraw,
    drawn: Drawn,
    scale: float,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top = drawn.box[0] * scale, drawn.box[1] * scale
    text = _shortened(pen, _drawable(drawn.text), size[0], font)
    begin_x, begin_y, end_x, end_y = pen.textbbox((0, 0), text, font=font)
    wide, high = end_x - begin_x + 6, end_y - begin_y + 4
    x = min(max(left, 0), max(size[0] - wide, 0))
    y = top - high if top >= high else min(top, max(size[1] - high, 0))
    pen.rectangle((x, y, x + wide, y + high), fill=_COLOURS[drawn.colour % len(_COLOURS)])
    pen.text((x + 3 - begin_x, y + 2 - begin_y), text, fill=(255, 255, 255), font=font)


def _shortened(
    pen: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """``text`` cut so that it fits into ``width`` pixels."""
    text = text[:200]
    while len(text) > 1 and pen.textlength(text, font=font) + 6 > width:
        text = text[: max(1, len(text) * 9 // 10)]
    return text


def _drawable(text: str) -> str:
    """``text`` in the letters that the font has: Latin; others without their accents, or as a question mark."""
    drawn = []
    for letter in unicodedata.normalize("NFC", text):
        if letter in "\t\n\r":
            drawn.append(" ")
        elif " " <= letter <= "~" or "\xa0" <= letter <= "\xff":
            drawn.append(letter)
        else:
            drawn.append(unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?")
    return "".join(drawn)
