"""TIFF: every kind that is decoded has the right pixels, every other kind is refused by name before decoding."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from services.errors import Problem
from services.media.formats import read_container
from services.media.image import read_picture
from services.media.intake import Limits
from tests.support import pictures as make

LIMITS = Limits(max_bytes=16 << 20, max_pixels=25_000_000, max_aspect=100, max_frames=1000)
RGB = np.asarray(make.photo(70, 50))
GRAY = np.asarray(make.photo(70, 50).convert("L"))
THREE = np.repeat(GRAY[..., None], 3, 2)
PLANES = np.moveaxis(RGB, 2, 0)
DEEP = GRAY.astype(np.uint16) * 257


def written(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def refused(data: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read_picture(data, LIMITS)
    return caught.value


KINDS = {
    "strips": (RGB, {"photometric": "rgb", "rowsperstrip": 7}, RGB),
    "tiles": (RGB, {"photometric": "rgb", "tile": (16, 32)}, RGB),
    "deflate": (RGB, {"photometric": "rgb", "compression": "zlib", "predictor": True}, RGB),
    "tiles, deflate": (RGB, {"photometric": "rgb", "tile": (32, 16), "compression": "zlib"}, RGB),
    "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}, RGB),
    "planes, deflate": (PLANES, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}, RGB),
    "gray": (GRAY, {"photometric": "minisblack"}, THREE),
    "white is zero": (255 - GRAY, {"photometric": "miniswhite"}, THREE),
    "16-bit gray": (DEEP, {"photometric": "minisblack"}, THREE),
    "16-bit gray, deflate": (DEEP, {"photometric": "minisblack", "compression": "zlib", "predictor": True}, THREE),
    "16-bit colour": (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}, RGB),
    "16-bit colour, deflate": (RGB.astype(np.uint16) * 257, {"photometric": "rgb", "compression": "zlib"}, RGB),
    "alpha": (np.dstack([RGB, GRAY * 0]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
    "a fourth band": (np.dstack([RGB, GRAY]), {"photometric": "rgb", "extrasamples": ["unspecified"]}, RGB),
}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_pixels_that_were_written(kind: str, order: str, big: bool) -> None:
    pixels, options, expected = KINDS[kind]
    picture = read_picture(written(pixels, byteorder=order, bigtiff=big, **options), LIMITS)
    assert (picture.format, picture.width, picture.height) == ("TIFF", 70, 50)
    np.testing.assert_array_equal(np.asarray(picture.image), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_deflate"])
def test_every_mode_has_the_pixels_that_pillow_gives(mode: str, compression: str | None) -> None:
    image = make.photo(70, 50).convert(mode)
    data = make.encoded(image, "TIFF", **({} if compression is None else {"compression": compression}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_picture(data, LIMITS).image), expected)


def test_gray_with_premultiplied_alpha_is_read() -> None:
    data = bytearray(make.encoded(Image.new("LA", (20, 20), (50, 100)), "TIFF"))
    at = data.index(struct.pack("<HHIH", 338, 3, 1, 2))  # ExtraSamples: 2 is alpha, 1 premultiplied alpha
    data[at + 8] = 1
    assert read_picture(bytes(data), LIMITS).image.getpixel((0, 0))[0] in (127, 128)  # 50 of 100


OTHERS = {
    "floating point": written(GRAY.astype(np.float32) / 255),
    "signed": written(GRAY.astype(np.int16)),
    "32 bits": written(GRAY.astype(np.uint32)),
    "13 bands": written(np.zeros((64, 64, 13), np.uint8), photometric="minisblack", planarconfig="contig"),
    "planar": written(PLANES.astype(np.uint16), photometric="rgb", planarconfig="separate"),
    "Zstandard": make.encoded(make.photo(), "TIFF", compression="zstd"),
    "CCITT fax": make.encoded(make.photo().convert("1"), "TIFF", compression="group4"),
    "colours are of kind 8": make.encoded(Image.new("LAB", (20, 20)), "TIFF"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_decoded_is_named(name: str) -> None:
    problem = refused(OTHERS[name])
    assert problem.code == "image-unsupported" and name in problem.detail and problem.remedy


def test_several_pages_are_refused_and_a_preview_is_none() -> None:
    pages = [make.photo(seed=seed) for seed in range(3)]
    problem = refused(make.encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert problem.code == "image-several-pages" and "3 pages" in problem.detail

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(np.asarray(read_picture(buffer.getvalue(), LIMITS).image), RGB)


def test_the_decoder_sees_one_directory_of_known_tags() -> None:
    data = written(RGB, photometric="rgb", description="x" * 50_000, extratags=[(65000, 1, 60_000, bytes(60_000))])
    with Image.open(io.BytesIO(read_container(data, LIMITS).pixels)) as seen:
        assert 65000 not in seen.tag_v2 and 270 not in seen.tag_v2 and seen.size == (70, 50)


def tiff(*tags: tuple[int, int, int, int], pixels: bytes = bytes(3 * 64)) -> bytes:
    """A TIFF of 8 x 8 RGB pixels, with ``tags`` (tag, type, count, value) put over its own."""
    own = {
        256: (3, 1, 8), 257: (3, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 2), 273: (4, 1, 8),
        277: (3, 1, 3), 278: (4, 1, 8), 279: (4, 1, len(pixels)),
    }  # fmt: skip
    own |= {tag: values for tag, *values in tags}  # type: ignore[misc]
    body = b"".join(struct.pack("<HHII", tag, *values) for tag, values in sorted(own.items()))
    return struct.pack("<4sI", b"II*\0", 8 + len(pixels)) + pixels + struct.pack("<H", len(own)) + body + bytes(4)


LIES = {
    "pixels of 4 billion": (tiff((256, 4, 1, 0xFFFFFFFF)), "image-too-many-pixels"),
    "no pixels": (tiff((257, 3, 1, 0)), "image-no-pixels"),
    "too narrow": (tiff((256, 3, 1, 1000)), "image-aspect"),
    "a strip behind the end": (tiff((273, 4, 1, 5_000)), "image-truncated"),
    "a strip of half the picture": (tiff((279, 4, 1, 90)), "image-truncated"),
    "strips that are not there": (tiff((278, 4, 1, 1)), "image-corrupt"),
    "strips of no rows": (tiff((278, 4, 1, 0)), "image-corrupt"),
    "strips by the million": (tiff((273, 4, 4_000_000, 8)), "image-truncated"),
    "huge tiles": (tiff((322, 4, 1, 65_536), (323, 4, 1, 65_536), (324, 4, 1, 8), (325, 4, 1, 192)), "image-corrupt"),
    "a tag of many values": (tiff((258, 3, 60_000, 8)), "image-corrupt"),
    "a tag of text": (tiff((256, 2, 1, 8)), "image-corrupt"),
    "a palette that is missing": (tiff((262, 3, 1, 3), (277, 3, 1, 1), (279, 4, 1, 64)), "image-corrupt"),
    "a directory in a circle": (tiff()[:-4] + struct.pack("<I", 8 + 192), "image-corrupt"),
    "a directory behind the end": (b"II*\0\xff\xff\xff\x7f", "image-truncated"),
    "nothing": (b"II*\0", "image-truncated"),
    "no directory": (b"II*\0\0\0\0\0", "image-corrupt"),
    "a BigTIFF of other offsets": (b"II+\0\x04\0\0\0" + bytes(20), "image-corrupt"),
    "JPEG of no JPEG": (tiff((259, 3, 1, 7)), "image-corrupt"),
}


def test_the_honest_one_among_the_lies_is_read() -> None:
    assert read_picture(tiff(), LIMITS).image.getpixel((3, 3)) == (0, 0, 0)


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused_at_once(name: str) -> None:
    data, code = LIES[name]
    begin = time.thread_time()
    assert refused(data).code == code
    assert time.thread_time() - begin < 2


def test_tags_that_all_mean_the_same_bytes_cost_nothing() -> None:
    """A decoder that reads every tag would hold 4,000 times the file."""
    pixels = bytes(1 << 20)
    many = [(1_000 + number, 1, 1 << 20, 8) for number in range(4_000)]
    assert read_picture(tiff(*many, (279, 4, 1, 192), pixels=pixels), LIMITS).width == 8
