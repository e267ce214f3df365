import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from services.errors import Kind, Problem
from services.media.image import Picture, read_picture
from services.media.intake import Limits
from tests.support import pictures as make

LIMITS = Limits(max_bytes=16 << 20, max_pixels=25_000_000, max_aspect=100, max_frames=1000)


def refused(data: bytes, limits: Limits = LIMITS) -> Problem:
    with pytest.raises(Problem) as caught:
        read_picture(data, limits)
    assert caught.value.title and caught.value.detail
    return caught.value


def pixels(picture: Picture) -> np.ndarray:
    assert picture.image.mode == "RGB"
    assert picture.image.size == (picture.width, picture.height)
    return np.asarray(picture.image)


# --- honest images


@pytest.mark.parametrize(
    ("form", "name", "options"),
    [
        ("JPEG", "JPEG", {"quality": 90}),
        ("JPEG", "JPEG", {"quality": 90, "progressive": True}),
        ("PNG", "PNG", {}),
        ("WEBP", "WebP", {"quality": 90}),
        ("WEBP", "WebP", {"lossless": True}),
        ("BMP", "BMP", {}),
        ("GIF", "GIF", {}),
        ("TIFF", "TIFF", {}),
        ("TIFF", "TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", "TIFF", {"compression": "jpeg", "quality": 90}),
        ("AVIF", "AVIF", {"quality": 90, "speed": 10}),
    ],
)
def test_every_format_decodes_to_the_pixels_that_pillow_gives(form: str, name: str, options: dict[str, object]):
    data = make.encoded(make.photo(), form, **options)
    picture = read_picture(data, LIMITS)
    assert (picture.format, picture.width, picture.height) == (name, 64, 48)
    np.testing.assert_array_equal(pixels(picture), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    np.testing.assert_array_equal(pixels(read_picture(memoryview(data), LIMITS)), pixels(picture))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(mode: str):
    image = make.photo().convert("L" if mode == "I;16" else "RGBA").convert(mode) if mode != "I;16" else None
    if image is None:
        image = Image.fromarray(np.asarray(make.photo().convert("L"), np.uint16) * 257)
    picture = read_picture(make.encoded(image, "PNG"), LIMITS)
    expected = make.photo().convert("L").convert("RGB") if mode == "I;16" else image.convert("RGB")
    np.testing.assert_array_equal(pixels(picture), np.asarray(expected))


def test_sixteen_bit_gray_is_scaled_and_not_clipped():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    got = pixels(read_picture(make.encoded(Image.fromarray(values), "PNG"), LIMITS))
    np.testing.assert_array_equal(got[..., 0], np.round(values.astype(np.float64) * 255 / 65535).astype(np.uint8))


def test_sixteen_bit_colour_is_scaled():
    value = struct.pack(">HHH", 0xFFFF, 0x8000, 0x0100)
    data = make.png(2, 1, 16, 2, rows=b"\0" + value * 2)
    assert pixels(read_picture(data, LIMITS))[0, 0].tolist() == [255, 128, 1]


def test_sixteen_bit_gray_needs_little_scratch_memory_for_its_rows():
    values = np.full((3, 30_000), 65535, np.uint16)
    limits = Limits(1 << 24, 1 << 24, 1e6, 1)
    assert (pixels(read_picture(make.encoded(Image.fromarray(values), "PNG"), limits)) == 255).all()


def test_alpha_is_dropped_and_hidden_colours_are_kept():
    image = make.photo().convert("RGBA")
    image.putalpha(0)
    picture = read_picture(make.encoded(image, "PNG"), LIMITS)
    np.testing.assert_array_equal(pixels(picture), np.asarray(make.photo()))


@pytest.mark.filterwarnings("error")
def test_transparency_of_palettes_and_key_colours_gives_no_warning():
    palette = make.photo().quantize(16)
    for image, transparency in ((palette, bytes(range(16))), (palette, 3), (make.photo(), (1, 2, 3))):
        data = make.encoded(image, "PNG", transparency=transparency)
        np.testing.assert_array_equal(pixels(read_picture(data, LIMITS)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_become_rgb(mode: str):
    image = make.photo().convert(mode)
    got = pixels(read_picture(make.encoded(image, "JPEG", quality=95), LIMITS))
    assert np.abs(got.astype(int) - np.asarray(image.convert("RGB")).astype(int)).mean() < 8


def test_first_frame_of_an_animation_is_the_picture():
    frames = [make.photo(seed=s).point(lambda v, s=s: v // (s + 1)) for s in range(3)]
    for form in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = make.encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        expected = Image.open(io.BytesIO(data)).convert("RGB")
        np.testing.assert_array_equal(pixels(read_picture(data, LIMITS)), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(orientation: int, order: str, form: str):
    block = make.exif(orientation, order)
    options = {"lossless": True} if form == "WEBP" else {}
    data = make.encoded(make.photo(), form, exif=b"Exif\0\0" + block, **options)
    got = read_picture(data, LIMITS)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(pixels(got), np.asarray(expected))
    assert (got.width, got.height) == ((48, 64) if orientation > 4 else (64, 48))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"MM*\0" + bytes(20),
        make.exif(0),
        make.exif(9),
        make.exif(65535),
        make.exif(6, kind=4),
        make.exif(6, count=2),
        make.exif(6, at=4_000_000_000),
        make.exif(6, at=7),
        make.exif(6)[:14],
        make.exif(6)[:-9],
        b"II*\0\x08\0\0\0\xff\xff" + bytes(30),
    ],
)
def test_bad_exif_is_ignored(block: bytes):
    plain = make.encoded(make.photo(), "JPEG")
    data = plain[:2] + make.jpeg_segment(0xE1, b"Exif\0\0" + block) + plain[2:]
    np.testing.assert_array_equal(pixels(read_picture(data, LIMITS)), pixels(read_picture(plain, LIMITS)))


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_the_smallest_images_are_read(size: tuple[int, int], form: str):
    picture = read_picture(make.encoded(make.photo(*size), form), LIMITS)
    assert (picture.width, picture.height) == size


def test_everything_that_is_not_pixels_is_kept_from_the_decoder():
    plain = make.encoded(make.photo(), "JPEG", quality=90)
    junk = make.jpeg_segment(0xE2, b"MPF\0" + bytes(60_000)) + make.jpeg_segment(0xFE, b"x" * 60_000) + b"\xff" * 9_000
    np.testing.assert_array_equal(
        pixels(read_picture(plain[:2] + junk * 20 + plain[2:], LIMITS)), pixels(read_picture(plain, LIMITS))
    )
    plain = make.encoded(make.photo(), "PNG")
    bomb = make.png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 24)))
    text = make.png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))
    other_size = make.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    data = plain[:33] + bomb + text * 100 + other_size + plain[33:]
    np.testing.assert_array_equal(pixels(read_picture(data, LIMITS)), np.asarray(make.photo()))
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"
    assert pixels(read_picture(make.gif(1, extra=comment), LIMITS)).tolist() == [[[200, 100, 50]]]


# --- refused from the header


HUGE = {
    "1-bit PNG of 169 megapixels": make.png(13_000, 13_000, 1, 0),
    "PNG of 400 megapixels": make.png_header(20_000, 20_000),
    "PNG of 4 billion times 4 billion": make.png_header(0xFFFFFFFF, 0xFFFFFFFF),
    "GIF screen": make.gif(1, 65_535, 65_535),
    "GIF frame": make.gif(1).replace(struct.pack("<HHHHB", 0, 0, 1, 1, 0), struct.pack("<HHHHB", 9, 9, 65_000, 999, 0)),
    "WebP canvas": make.riff((b"VP8X", make.webp_canvas(16_000, 16_000)), (b"ANMF", bytes(40))),
    "WebP lossless": make.riff((b"VP8L", b"\x2f" + (16_383 << 14 | 16_383).to_bytes(4, "little") + bytes(20))),
    "WebP lossy": make.riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(20))),
    "BMP": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 30_000, -30_000, 1, 24, 0) + bytes(24),
    "JPEG": make.encoded(make.photo(), "JPEG").replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 65_000, 65_000)),
}


@pytest.mark.parametrize("name", HUGE)
def test_too_many_pixels_are_refused_from_the_header(name: str):
    problem = refused(HUGE[name])
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-too-many-pixels")


@pytest.mark.parametrize("name", HUGE)
def test_a_pixel_bomb_costs_less_than_ten_milliseconds(name: str):
    def cost() -> float:
        begin = time.thread_time()
        refused(HUGE[name])
        return time.thread_time() - begin

    assert min(cost() for _ in range(3)) < 0.010


@pytest.mark.parametrize(
    "data",
    [
        make.gif(10_000),
        make.png(8, 8, 8, 0, make.png_chunk(b"acTL", struct.pack(">II", 10_000, 0))),
        make.riff((b"VP8X", make.webp_canvas(8, 8)), *[(b"ANMF", bytes(16))] * 10_000),
    ],
    ids=["GIF", "APNG", "WebP"],
)
def test_too_many_frames_are_refused_quickly(data: bytes):
    costs = []
    for _ in range(3):
        begin = time.thread_time()
        assert refused(data).code == "image-too-many-frames"
        costs.append(time.thread_time() - begin)
    assert min(costs) < 0.010


def test_as_many_frames_as_allowed_are_accepted():
    assert read_picture(make.gif(1000), LIMITS).width == 1


@pytest.mark.parametrize("size", [(1, 101), (505, 5), (64, 0), (0, 64)])
def test_odd_shapes_are_refused(size: tuple[int, int]):
    assert refused(make.png_header(*size)).code == ("image-no-pixels" if 0 in size else "image-aspect")


def test_limits_hold_to_the_pixel_and_to_the_byte():
    data = make.encoded(make.photo(), "PNG")
    exact = Limits(len(data), 64 * 48, 64 / 48, 1)
    assert read_picture(data, exact).width == 64
    assert refused(data, Limits(len(data) - 1, 64 * 48, 2, 1)).kind is Kind.TOO_LARGE
    assert refused(data, Limits(len(data), 64 * 48 - 1, 2, 1)).code == "image-too-many-pixels"
    assert refused(data, Limits(len(data), 64 * 48, 1.3, 1)).code == "image-aspect"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "AVIF"])
def test_pillows_own_pixel_limit_plays_no_part(form: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_picture(SMALL[form], LIMITS).width == 64


SMALL = {form: make.encoded(make.photo(), form) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "AVIF")}


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xd0" * 4_000_000,
        b"\xff\xd8\xff" + b"\xff" * 8_000_000,
        b"\xff\xd8\xff\xe0\x00\x02" + bytes(8_000_000),
        make.gif(1, extra=bytes(8_000_000)),
        make.gif(1, extra=b"\x21\xfe" + b"\x01\x00" * 4_000_000),
        make.gif(1, extra=b"\x21\xfe\x00" * 3_000_000),
        make.png(8, 8, 8, 0, make.png_chunk(b"IDAT") * 600_000),
        make.riff((b"VP8X", make.webp_canvas(8, 8)), *[(b"XXXX", b"")] * 1_000_000),
    ],
    ids=["standalone", "fill", "gap", "GIF zeros", "GIF blocks", "GIF comments", "PNG chunks", "WebP chunks"],
)
def test_a_maze_of_headers_is_left_early(data: bytes):
    begin = time.thread_time()
    assert refused(data).code in ("image-corrupt", "image-truncated")
    assert time.thread_time() - begin < 0.5


def test_a_progressive_jpeg_of_a_thousand_scans_is_refused():
    data = make.encoded(make.photo(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    problem = refused(data[:last] + data[last:-2] * 1000 + b"\xff\xd9")
    assert problem.code == "image-unsupported"
    assert "scans" in problem.detail


# --- broken and lying files


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"hello, I am a text", ""),
        (b"%PDF-1.7\n", "a PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "a HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC"),
        (b"data:image/png;base64,AAAA", "a data URI"),
        (b"BM" + b"ore text than image", ""),
        (b"GIF90a" + bytes(20), ""),
        (b"RIFF\0\0\0\0WAVE" + bytes(20), ""),
        (b"\x89PNG\n\x1a\n" + bytes(20), ""),
        (b"\0", ""),
    ],
)
def test_other_formats_are_refused_by_name(data: bytes, seen: str):
    problem = refused(data)
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-unrecognised")
    assert seen in problem.detail


def test_no_bytes_are_refused():
    assert refused(b"").code == "image-empty"


def test_a_truncated_jpeg_says_about_how_much_is_missing():
    data = make.encoded(make.photo(800, 600), "JPEG", quality=90)
    problem = refused(data[: len(data) // 2])
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-truncated")
    has, about = (int(word.replace(",", "")) for word in problem.detail.split() if word[0].isdigit())
    assert has == len(data) // 2
    assert 0.8 < about / len(data) < 1.25


def test_a_truncated_progressive_jpeg_is_refused():
    data = make.encoded(make.photo(800, 600), "JPEG", progressive=True)
    assert refused(data[: len(data) // 3]).code == "image-truncated"


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "GIF", "JPEG", "TIFF", "AVIF"])
def test_a_file_cut_anywhere_is_never_a_crash_and_mostly_truncated(form: str):
    data = make.encoded(make.photo(160, 120), form)
    codes = []
    for length in range(1, len(data) - 64, max(1, len(data) // 97)):
        codes.append(refused(data[:length]).code)
    assert set(codes) <= {"image-truncated", "image-unrecognised", "image-corrupt"}
    assert codes.count("image-truncated") > 0.9 * len(codes)


@pytest.mark.parametrize("form", ["BMP", "WEBP"])
def test_formats_that_know_their_length_say_how_much_is_missing(form: str):
    data = make.encoded(make.photo(), form)
    assert f"{len(data) - 200:,} of {len(data):,} bytes" in refused(data[:-200]).detail


def test_a_png_without_its_last_chunk_is_accepted_when_its_pixels_are_whole():
    data = make.encoded(make.photo(), "PNG")
    np.testing.assert_array_equal(pixels(read_picture(data[:-12], LIMITS)), np.asarray(make.photo()))


LYING = {
    "PNG with too few rows": make.png_header(1000, 1000),
    "PNG with a broken stream": make.png(8, 8, 8, 0).replace(b"IDAT", b"IDAT\xff\xff", 1),
    "PNG without pixels": b"\x89PNG\r\n\x1a\n"
    + make.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    + make.png_chunk(b"IEND"),
    "PNG of 3 bits": make.png(8, 8, 3, 0),
    "PNG palette without palette": make.png(8, 8, 8, 3),
    "JPEG with two sizes": b"\xff\xd8" + make.jpeg_segment(0xC0, b"\x08\0\x08\0\x08\x01\x01\x11\0") * 2,
    "JPEG without size": b"\xff\xd8" + make.jpeg_segment(0xDA, bytes(8)) + bytes(100),
    "JPEG without anything": b"\xff\xd8\xff\xd9",
    "JPEG without tables": b"\xff\xd8"
    + make.jpeg_segment(0xC0, b"\x08\0\x08\0\x08\x01\x01\x11\0")
    + make.jpeg_segment(0xDA, b"\x01\x01\0\0\x3f\0")
    + bytes(100)
    + b"\xff\xd9",
    "GIF with an unknown block": make.gif(1, extra=b"\x77"),
    "GIF with bad codes": make.gif(1).replace(make.GIF_PIXEL, b"\x0f\x02\x44\x01\x00"),
    "WebP of rubbish": make.riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 8, 8) + b"\x99" * 60)),
    "WebP of no image": make.riff((b"XXXX", bytes(40))),
    "BMP of 7 bits": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 8, 8, 1, 7, 0) + bytes(500),
}


@pytest.mark.parametrize("name", LYING)
def test_lying_files_are_invalid(name: str):
    problem = refused(LYING[name])
    assert problem.kind is Kind.INVALID
    assert problem.code in ("image-corrupt", "image-truncated")


UNSUPPORTED = {
    "lossless JPEG": b"\xff\xd8" + make.jpeg_segment(0xC3, b"\x08\0\x08\0\x08\x01\x01\x11\0"),
    "12-bit JPEG": b"\xff\xd8" + make.jpeg_segment(0xC1, b"\x0c\0\x08\0\x08\x01\x01\x11\0"),
    "JPEG of two components": b"\xff\xd8" + make.jpeg_segment(0xC0, b"\x08\0\x08\0\x08\x02\x01\x11\0\x02\x11\0"),
    "run-length BMP": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 8, 8, 1, 8, 1) + bytes(500),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_variants_are_named(name: str):
    problem = refused(UNSUPPORTED[name])
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-unsupported")


SEEDS = [
    make.encoded(make.photo(24, 16), form, **options)  # type: ignore[arg-type]
    for form, options in (
        ("JPEG", {"exif": b"Exif\0\0" + make.exif(6)}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {"speed": 10}),
    )
] + [make.gif(3), make.encoded(make.photo(24, 16).quantize(8), "PNG", transparency=b"\1\2\3")]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    st.integers(0, 40),
)
@pytest.mark.filterwarnings("error")
def test_mutated_files_give_a_picture_or_a_problem(seed: bytes, edits: list[tuple[float, bytes]], cut: int):
    data = bytearray(seed)
    for where, value in edits:
        at = int(where * where * (len(data) - 1))  # headers more often than pixels
        data[at : at + len(value)] = value
    try:
        pixels(read_picture(bytes(data[: len(data) - cut]), Limits(1 << 20, 1_000_000, 100, 100)))
    except Problem as problem:
        assert problem.kind in (Kind.INVALID, Kind.TOO_LARGE)
