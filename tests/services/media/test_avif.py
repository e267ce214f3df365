"""AVIF: the still picture has the right pixels, and neither boxes nor streams can ask for more work than is allowed."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from services.errors import Problem
from services.media.formats import read_container
from services.media.formats.av1 import frames_and_pixels
from services.media.image import read_picture
from services.media.intake import Limits
from tests.support import pictures as make

LIMITS = Limits(max_bytes=16 << 20, max_pixels=25_000_000, max_aspect=100, max_frames=1000)


def avif(width: int = 64, height: int = 48, mode: str = "RGB", **options: object) -> bytes:
    return make.encoded(make.photo(width, height).convert(mode), "AVIF", speed=10, **options)


def refused(data: bytes, limits: Limits = LIMITS) -> Problem:
    with pytest.raises(Problem) as caught:
        read_picture(data, limits)
    return caught.value


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_mode_has_the_pixels_that_pillow_gives(mode: str) -> None:
    data = avif(70, 50, mode)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_picture(data, LIMITS).image), expected)


def test_a_grid_of_tiles_is_read() -> None:
    data = open_grid()
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_picture(data, LIMITS).image), expected)


def open_grid() -> bytes:
    """Two tiles side by side, made of one still picture: its stream is used twice."""
    tile = avif(64, 64)
    container = read_container(tile, LIMITS)
    stream = stream_of(container.pixels)

    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I4s", 8 + len(content), kind) + content

    def full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
        return box(kind, struct.pack(">I", version << 24), *parts)

    ftyp = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    infe = [full(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), version=2)
            for number, kind in ((1, b"grid"), (2, b"av01"), (3, b"av01"))]  # fmt: skip
    properties = box(
        b"ipco",
        full(b"ispe", struct.pack(">II", 128, 64)),
        full(b"ispe", struct.pack(">II", 64, 64)),
        box(b"pixi", struct.pack(">IB3B", 0, 3, 8, 8, 8)),
        property_of(tile, b"av1C"),
    )
    uses = struct.pack(">I", 3) + struct.pack(">HBBB", 1, 2, 1, 3)
    uses += b"".join(struct.pack(">HBBBB", number, 3, 2, 3, 0x84) for number in (2, 3))
    grid = struct.pack(">BBBBHH", 0, 0, 0, 1, 128, 64)

    def meta(at: int) -> bytes:
        where = struct.pack(">BBH", 0x44, 0, 3)
        for number, (begin, length) in ((1, (at, len(grid))), (2, (at + 8, len(stream))), (3, (at + 8, len(stream)))):
            where += struct.pack(">HHHII", number, 0, 1, begin, length)
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", where),
            full(b"iinf", struct.pack(">H", 3), *infe),
            box(b"iprp", properties, full(b"ipma", uses)),
            full(b"iref", box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3))),
        )

    begin = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(begin) + box(b"mdat", grid, stream)


def property_of(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind) - 4
    return data[at : at + int.from_bytes(data[at : at + 4], "big")]


def stream_of(data: bytes) -> bytes:
    return data[data.index(b"mdat") + 4 :]


def test_of_a_film_the_still_picture_is_read() -> None:
    frames = [make.photo(seed=seed) for seed in range(4)]
    data = make.encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    assert data[8:12] == b"avis"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_picture(data, LIMITS).image), expected)
    with Image.open(io.BytesIO(read_container(data, LIMITS).pixels)) as seen:
        assert getattr(seen, "n_frames", 1) == 1


def test_the_size_of_the_boxes_is_limited() -> None:
    data = avif()
    size = struct.pack(">II", 64, 48)
    assert refused(data.replace(size, struct.pack(">II", 60_000, 60_000))).code == "image-too-many-pixels"
    assert refused(data.replace(size, struct.pack(">II", 64, 0))).code == "image-no-pixels"
    assert refused(data.replace(size, struct.pack(">II", 20_000, 48))).code == "image-aspect"
    assert read_picture(data, Limits(1 << 20, 64 * 48, 2, 1)).width == 64
    assert refused(data, Limits(1 << 20, 64 * 48 - 1, 2, 1)).code == "image-too-many-pixels"


def test_the_size_of_the_stream_is_limited_whatever_the_boxes_say() -> None:
    """A decoder would decode the large stream, and scale it down."""
    data = avif(400, 300)
    small = data.replace(struct.pack(">II", 400, 300), struct.pack(">II", 40, 30))
    assert small != data
    assert refused(small, Limits(1 << 20, 10_000, 100, 1)).code == "image-too-many-pixels"


@pytest.mark.parametrize("options", [{}, {"quality": 100}, {"subsampling": "4:4:4"}])
def test_a_stream_tells_its_size(options: dict[str, object]) -> None:
    for width, height in ((1, 1), (64, 48), (333, 77)):
        frames, pixels = frames_and_pixels(stream_of(avif(width, height, **options)))
        assert (frames, pixels) == (1, width * height)


def test_frames_that_are_never_shown_are_work_too() -> None:
    stream = stream_of(avif())
    assert frames_and_pixels(stream * 50)[0] == 50


def test_a_cropped_picture_is_refused_by_name() -> None:
    data = bytearray(avif())
    at = data.index(b"pixi")
    data[at : at + 4] = b"clap"
    problem = refused(bytes(data))
    assert problem.code == "image-unsupported" and "cropped" in problem.detail


@pytest.mark.parametrize("cut", [12, 20, 30, 60, 120, 200])
def test_cut_boxes_are_refused(cut: int) -> None:
    assert refused(avif()[:cut]).code in ("image-truncated", "image-corrupt")


@pytest.mark.parametrize("kind", [b"pitm", b"iloc", b"iinf", b"iprp", b"ispe", b"ipma", b"meta"])
def test_a_missing_part_is_refused(kind: bytes) -> None:
    data = avif()
    at = data.index(kind)
    assert refused(data[:at] + b"free" + data[at + 4 :]).code in (
        "image-corrupt", "image-unsupported", "image-truncated",
    )  # fmt: skip
