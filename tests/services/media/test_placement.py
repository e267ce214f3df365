"""Pictures of any size into tensors, the aspect kept: against the formulas written out a second time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.catalog.geometry import ImageGeometry, ImagePreprocess, LongerSide, Native, ShorterSide
from services.media.image import Picture
from services.media.preprocess import Preprocessor, place
from tests.support import pictures as make

SIZES = [(1, 1), (1, 90), (90, 1), (37, 53), (53, 37), (64, 64), (65, 64), (200, 31)]
PADDED: list[Any] = [
    LongerSide(size=48),
    LongerSide(size=48, multiple=32, fill=(114, 114, 114)),
    LongerSide(size=50, multiple=7, interpolation="bicubic", fill=(1, 2, 250)),
    ShorterSide(size=33, max_size=60),
    ShorterSide(size=33, max_size=60, multiple=32, fill=(0, 0, 0)),
    Native(multiple=14),
    Native(max_size=64, multiple=16, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)),
]
ALL: list[Any] = [*PADDED, ImagePreprocess(size=32), ImagePreprocess(size=32, resize=20)]
ALL.append(ImagePreprocess(size=32, mode="squash"))


def picture(image: Image.Image) -> Picture:
    return Picture(image, image.width, image.height, "PNG")


def scaled(form: Any, w: int, h: int) -> tuple[int, int]:
    """Sizes as their sources compute them: SAM's ``get_preprocess_shape``, torchvision's ``Resize(size, max_size)``."""
    if isinstance(form, ShorterSide):
        short, long = (w, h) if w <= h else (h, w)
        new_short, new_long = form.size, int(form.size * long / short)
        if new_long > form.max_size:
            new_short, new_long = int(form.max_size * new_short / new_long), form.max_size
        new_short = max(new_short, 1)
        return (new_short, new_long) if w <= h else (new_long, new_short)
    most = form.size if isinstance(form, LongerSide) else form.max_size
    if isinstance(form, Native) and max(w, h) <= most:
        return w, h
    scale = most / max(w, h)
    return max(int(w * scale + 0.5), 1), max(int(h * scale + 0.5), 1)


def reference(form: Any, image: Image.Image) -> np.ndarray:
    """``(3, H, W)``: resized by Pillow, normalised in float64, laid on the ground."""
    w, h = scaled(form, *image.size)
    if isinstance(form, LongerSide) and form.multiple is None:
        wide = high = form.size
    else:
        wide, high = (math.ceil(side / form.multiple) * form.multiple for side in (w, h))
    mean, std = np.array(form.mean), np.array(form.std)
    resized = image if image.size == (w, h) else image.resize((w, h), getattr(Image, form.interpolation.upper()))
    ground = np.empty((high, wide, 3))
    ground[:] = 0 if form.fill == "mean" else (np.array(form.fill) / 255 - mean) / std
    ground[:h, :w] = (np.asarray(resized) / 255 - mean) / std
    return ground.transpose(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", PADDED, ids=repr)
def test_a_whole_picture_is_scaled_and_padded_as_written(form: ImageGeometry, size: tuple[int, int]) -> None:
    image = make.photo(*size)
    got = Preprocessor(form).batch([picture(image)])[0]
    expected = reference(form, image)
    assert got.dtype == np.float32 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-6)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PADDED), st.integers(1, 300), st.integers(1, 300))
def test_scale_and_padding_are_told(form: Any, width: int, height: int) -> None:
    placed = place(form, width, height)
    w, h = scaled(form, width, height)
    left, top, right, bottom = placed.padding
    assert (left, top) == (0, 0)
    assert placed.shape == (h + bottom, w + right)
    assert placed.scale == (w / width, h / height)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ALL), st.integers(1, 300), st.integers(1, 300), st.data())
def test_boxes_return_to_the_picture(form: Any, width: int, height: int, data: st.DataObject) -> None:
    x = sorted(data.draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y = sorted(data.draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    boxes = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    placed = place(form, width, height)
    there = placed.boxes_to_tensor(boxes)
    np.testing.assert_allclose(placed.boxes_to_picture(there), boxes, atol=2e-3)


@pytest.mark.parametrize("form", ALL, ids=repr)
def test_a_box_lies_around_what_it_lay_around(form: Any) -> None:
    """A white square in a black picture: the box that is carried over holds the tensor's bright pixels, no others."""
    pixels = np.zeros((150, 210, 3), np.uint8)
    pixels[60:90, 90:120] = 255
    tensor = Preprocessor(form).batch([picture(Image.fromarray(pixels))])[0, 0]
    middle = ((0.5 - form.mean[0]) / form.std[0]) if form.mean[0] != 0.5 else 0.0
    placed = place(form, 210, 150)
    ((left, top, right, bottom),) = placed.boxes_to_tensor(np.array([[90, 60, 120, 90]], np.float32))
    inside = np.zeros(tensor.shape, bool)
    inside[round(top) : round(bottom), round(left) : round(right)] = True
    shown = np.zeros(tensor.shape, bool)
    pad = placed.padding
    shown[pad[1] : tensor.shape[0] - pad[3], pad[0] : tensor.shape[1] - pad[2]] = True
    differing = ((tensor > middle) != inside) & shown
    perimeter = 2 * (right - left + bottom - top)
    assert differing.sum() <= perimeter, "more than one pixel along the edge"


def test_boxes_are_cut_at_the_edges_of_the_picture() -> None:
    placed = place(LongerSide(size=100), 200, 100)
    outside = np.array([[-5, -5, 300, 90]], np.float32)
    np.testing.assert_array_equal(placed.boxes_to_picture(outside), [[0, 0, 200, 100]])


def test_pictures_of_different_tensors_are_no_batch() -> None:
    with pytest.raises(ValueError, match="2 pictures give tensors of 2 sizes"):
        Preprocessor(Native()).batch([picture(make.photo(20, 30)), picture(make.photo(30, 20))])


def test_a_huge_native_picture_is_scaled_down_to_its_limit() -> None:
    assert place(Native(max_size=100, multiple=32), 5000, 1000).shape == (32, 128)
