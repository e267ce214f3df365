"""Boxes are drawn into any picture, with captions that can be read, whatever the box and the label."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.detection.rendering import LONGEST, Drawn, render
from services.media.image import Picture


def drawn(size: tuple[int, int], *boxes: Drawn, form: str = "PNG", ground: str = "white") -> Image.Image:
    picture = Picture(Image.new("RGB", size, ground), *size, form)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(render(picture, boxes)))
    assert image.format == form
    return image.convert("RGB")


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (-5, -5, 900, 900), (199, 99, 200, 100), (50, 50, 50, 50), (10, 60, 90, 95)]
)
@pytest.mark.parametrize("text", ["cat 0.93", "caf\xe9", "\u732b \U0001f3a9", "x" * 500, "two\nlines"])
def test_any_box_with_any_label_is_drawn(box: tuple[float, float, float, float], text: str) -> None:
    pixels = np.asarray(drawn((200, 100), Drawn(box, text, 3)))
    assert pixels.shape == (100, 200, 3)
    assert (pixels != 255).any()


def test_a_caption_is_white_on_the_colour_of_its_box_and_inside_the_picture() -> None:
    pixels = np.asarray(drawn((300, 200), Drawn((100, 80, 220, 160), "cat 0.93", 0), ground="black"), np.int64)
    red = np.array((230, 25, 75))
    above = pixels[68:80, 100:150].reshape(-1, 3)
    assert (above == red).all(axis=1).mean() > 0.3 and (above.min(axis=1) > 200).any()
    top = np.asarray(drawn((300, 200), Drawn((100, 0, 220, 160), "cat 0.93", 0), ground="black"), np.int64)
    assert (top[0:14, 100:160].reshape(-1, 3).min(axis=1) > 200).any()  # there is no room above


def test_the_surest_box_lies_on_top_and_large_pictures_are_scaled_down() -> None:
    same = (20.0, 20.0, 80.0, 80.0)
    pixels = np.asarray(drawn((100, 100), Drawn(same, "", 0), Drawn(same, "", 1)))
    assert tuple(pixels[50, 20]) == (230, 25, 75)
    assert drawn((LONGEST * 2, 100), form="JPEG").size == (LONGEST, 50)
    assert drawn((1, 1), Drawn((0, 0, 1, 1), "a", 0)).size == (1, 1)
