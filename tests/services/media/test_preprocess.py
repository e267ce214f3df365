import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from models.catalog.geometry import ImagePreprocess, LongerSide, Stretched
from services.media.image import Picture, read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor, place
from tests.support import pictures as make

PARITY = Path(__file__).resolve().parents[2] / "parity" / "preprocess"
CONFIG = json.loads((PARITY / "config.json").read_text())
LIMITS = Limits(max_bytes=1 << 24, max_pixels=25_000_000, max_aspect=100, max_frames=10)


def picture(image: Image.Image) -> Picture:
    return Picture(image, image.width, image.height, "PNG")


def normalised(pixels: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
    """``(H, W, 3) uint8`` to ``(3, H, W)``: the formula as written, in float32."""
    values = pixels.astype(np.float32) / np.float32(255)
    values = (values - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return values.transpose(2, 0, 1)


def shorter_crop(image: Image.Image, resize: int, size: int) -> Image.Image:
    """torchvision's Resize and CenterCrop, written out for images that are not smaller than the crop."""
    w, h = image.size
    new = (resize, resize * h // w) if w <= h else (resize * w // h, resize)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return image.resize(new, Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


@pytest.mark.parametrize("case", CONFIG["cases"], ids=lambda case: case["name"])
def test_equals_the_reference_transform(case: dict):
    mode = "shorter-crop" if case["center_crop"] else "squash"
    spec = ImagePreprocess(size=case["img_size"], mode=mode, mean=CONFIG["mean"], std=CONFIG["std"])
    got = Preprocessor(spec).batch([read_picture((PARITY / case["file"]).read_bytes(), LIMITS)])
    np.testing.assert_allclose(got[0], load_file(PARITY / "io.safetensors")[case["name"]], rtol=0, atol=1e-5)


def test_every_pixel_value_is_bit_identical_to_the_formula():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.stack([values, values[::-1], values.T], -1)
    spec = ImagePreprocess(size=16, mode="squash", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    got = Preprocessor(spec).batch([picture(Image.fromarray(pixels))])[0]
    np.testing.assert_array_equal(got.view(np.uint32), normalised(pixels, spec).copy().view(np.uint32))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 30))
def test_any_size_equals_resize_then_crop(width: int, height: int, size: int, more: int):
    spec = ImagePreprocess(size=size, resize=size + more)
    image = make.photo(width, height)
    got = Preprocessor(spec).batch([picture(image)])[0]
    expected = normalised(np.asarray(shorter_crop(image, size + more, size)), spec)
    np.testing.assert_array_equal(got, expected)


def test_default_resize_is_the_references_for_every_size():
    for size in range(8, 2049):
        placed = Preprocessor(ImagePreprocess(size=size)).placement(4096, 4096)
        assert placed.width == int(256 / 224 * size) == int(size / 0.875)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 3), (100, 1), (1, 100)])
@pytest.mark.parametrize("mode", ["shorter-crop", "squash"])
def test_the_smallest_pictures_work(shape: tuple[int, int], mode: str):
    got = Preprocessor(ImagePreprocess(size=32, mode=mode)).batch([picture(make.photo(*shape))])
    assert got.shape == (1, 3, 32, 32)
    assert np.isfinite(got).all()


@pytest.mark.parametrize(("width", "height"), [(20, 20), (20, 61), (61, 20), (21, 40)])
def test_a_resize_below_the_crop_is_padded_with_black_as_torchvision_does(width: int, height: int):
    spec = ImagePreprocess(size=32, resize=20)
    image = make.photo(width, height)
    w, h = (20, 20 * height // width) if width <= height else (20 * width // height, 20)
    small = np.asarray(image.resize((w, h), Image.Resampling.BICUBIC))
    left, top = max(32 - w, 0), max(32 - h, 0)
    padded = np.pad(small, ((top // 2, top - top // 2), (left // 2, left - left // 2), (0, 0)))
    y, x = round((padded.shape[0] - 32) / 2), round((padded.shape[1] - 32) / 2)
    expected = normalised(padded[y : y + 32, x : x + 32], spec)
    np.testing.assert_array_equal(Preprocessor(spec).batch([picture(image)])[0], expected)


@pytest.mark.parametrize("shape", [(3000, 30), (30, 3000)])
def test_a_long_strip_is_cropped_before_it_is_blown_up(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    spec = ImagePreprocess(size=112)
    image = make.photo(*shape)
    whole = Preprocessor(spec).batch([picture(image)])
    monkeypatch.setattr("services.media.preprocess._LARGEST_RESIZE", 1000)
    part = Preprocessor(spec).batch([picture(image)])
    assert np.abs(part - whole).max() <= 1.01 / 255 / 0.224


def test_a_long_strip_does_not_take_gigabytes():
    got = Preprocessor(ImagePreprocess(size=2048)).batch([picture(make.photo(10_000, 100))])
    assert got.shape == (1, 3, 2048, 2048)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolation_is_the_cards(interpolation: str):
    spec = ImagePreprocess(size=24, mode="squash", interpolation=interpolation)
    image = make.photo()
    expected = image.resize((24, 24), getattr(Image.Resampling, interpolation.upper()))
    np.testing.assert_array_equal(Preprocessor(spec).batch([picture(image)])[0], normalised(np.asarray(expected), spec))


def test_into_writes_one_row_of_a_batch_and_nothing_else():
    spec = ImagePreprocess(size=16, mode="squash")
    batch = np.full((3, 3, 16, 16), 7, np.float32)
    Preprocessor(spec).into(picture(make.photo()), batch[1])
    assert (batch[0] == 7).all() and (batch[2] == 7).all()
    np.testing.assert_array_equal(batch[1], Preprocessor(spec).batch([picture(make.photo())])[0])


def test_into_takes_a_view_of_any_strides():
    spec = ImagePreprocess(size=16, mode="squash")
    out = np.zeros((16, 16, 3), np.float32)
    Preprocessor(spec).into(picture(make.photo()), out.transpose(2, 0, 1))
    np.testing.assert_array_equal(out.transpose(2, 0, 1), Preprocessor(spec).batch([picture(make.photo())])[0])


@pytest.mark.parametrize("out", [np.zeros((3, 16, 17), np.float32), np.zeros((3, 16, 16)), np.zeros((16, 16))])
def test_another_shape_or_type_is_refused(out: np.ndarray):
    with pytest.raises(ValueError, match="float32"):
        Preprocessor(ImagePreprocess(size=16)).into(picture(make.photo()), out)


def test_threads_may_share_one_preprocessor():
    preprocessor = Preprocessor(ImagePreprocess(size=64))
    shapes = [(40 + i, 90 - i) for i in range(40)]
    expected = [preprocessor.batch([picture(make.photo(*shape))]) for shape in shapes]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda shape: preprocessor.batch([picture(make.photo(*shape))]), shapes))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blue_comes_first_where_a_card_says_so() -> None:
    shown = picture(Image.new("RGB", (4, 2), (255, 127, 0)))
    usual = LongerSide(size=8, mean=(0.1, 0.2, 0.3), std=(1, 2, 4), fill=(10, 20, 30))
    rgb = Preprocessor(usual).batch([shown])
    bgr = Preprocessor(usual.model_copy(update={"channels": "bgr"})).batch([shown])
    assert np.array_equal(bgr, rgb[:, ::-1])


def test_a_centred_picture_lies_in_the_middle_and_its_boxes_come_back() -> None:
    placed = place(LongerSide(size=64, centred=True), 100, 51)
    assert (placed.width, placed.height, placed.padding) == (64, 33, (0, 15, 0, 16))
    boxes = np.array([[0, 15, 64, 48]], np.float32)
    assert placed.boxes_to_picture(boxes) == pytest.approx(np.array([[0, 0, 100, 51]]))
    across = place(LongerSide(size=64, multiple=32, centred=True), 40, 100)
    assert (across.shape, across.padding) == ((64, 32), (3, 0, 3, 0))


def test_a_stretched_picture_fills_its_tensor_and_boxes_come_back() -> None:
    form = Stretched(width=16, height=8, mean=(0, 0, 0), std=(1, 1, 1))
    shown = picture(make.photo(40, 30))
    got = Preprocessor(form).batch([shown])
    expected = np.asarray(shown.image.resize((16, 8), Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1) / 255
    assert got[0] == pytest.approx(expected, abs=1e-6)
    back = place(form, 40, 30).boxes_to_picture(np.array([[8, 4, 16, 8]], np.float32))
    assert back == pytest.approx(np.array([[20, 15, 40, 30]]))
