import base64

import pytest

from services.errors import Kind, Problem
from services.media.intake import Limits, decode_base64
from services.settings import Settings

LIMITS = Limits(max_bytes=1000, max_pixels=1_000_000, max_aspect=100, max_frames=10)


def refused(text: str) -> Problem:
    with pytest.raises(Problem) as caught:
        decode_base64(text, LIMITS)
    return caught.value


def test_limits_come_from_the_settings():
    settings = Settings(max_image_bytes=2048, max_image_pixels=4096, max_image_aspect=3, max_image_frames=7)
    assert Limits.of(settings) == Limits(2048, 4096, 3, 7)


@pytest.mark.parametrize("size", [1, 2, 3, 57, 999, 1000])
def test_plain_base64_and_data_uris_give_the_bytes(size: int):
    data = bytes(i % 251 for i in range(size))
    text = base64.b64encode(data).decode()
    assert decode_base64(text, LIMITS) == data
    assert decode_base64("data:image/png;base64," + text, LIMITS) == data
    assert decode_base64("DATA:image/png;charset=x;BASE64," + text, LIMITS) == data
    assert decode_base64("data:;base64," + text, LIMITS) == data


def test_base64_broken_into_lines_is_accepted():
    data = bytes(range(250)) * 4
    text = base64.encodebytes(data).decode()
    assert "\n" in text
    assert decode_base64(text, LIMITS) == data
    assert decode_base64("data:image/png;base64," + text.replace("\n", "\r\n"), LIMITS) == data


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("héllo", "'é' at position 1"),
        ("AAA*AAAA", "'*' at position 3"),
        ("AAAAA", "not complete"),
        ("AA=A", "not complete"),
        ("AA==AAAA", "not complete"),
        ("AAA", "not complete"),
        ("https://example.com/cat.jpg", "':' at position 5"),
        ("data:image/png,abc", "data URI"),
        ("data:image/png;base64", "data URI"),
        ("data:" + "x" * 5000, "data URI"),
        ("AAA\x00", "'\\x00' at position 3"),
    ],
)
def test_what_is_not_base64_is_refused_with_its_place(text: str, detail: str):
    problem = refused(text)
    assert (problem.kind, problem.code) == (Kind.INVALID, "image-not-base64")
    assert detail in problem.detail


def test_url_safe_base64_is_refused_with_the_remedy():
    problem = refused("AA-_")
    assert problem.code == "image-not-base64"
    assert problem.remedy and "standard alphabet" in problem.remedy


@pytest.mark.parametrize("text", ["", "  \n", "data:image/png;base64,"])
def test_no_bytes_are_refused_as_empty(text: str):
    assert refused(text).code == "image-empty"


@pytest.mark.parametrize("size", [1001, 1002, 1003, 5000])
def test_too_many_bytes_are_refused_by_their_length(size: int):
    text = base64.b64encode(bytes(size)).decode()
    for form in (text, "data:image/png;base64," + text, base64.encodebytes(bytes(size)).decode()):
        problem = refused(form)
        assert (problem.kind, problem.code) == (Kind.TOO_LARGE, "image-too-large")
        assert f"{size:,}" in problem.detail


def test_an_oversized_text_is_refused_before_it_is_decoded():
    # Not base64 at its end: decoding would have found that first.
    assert refused("A" * 4000 + "*").code == "image-too-large"


def test_blanks_that_were_plus_signs_are_named():
    """A form turns + into a blank: without a word the rest would be decoded into other bytes."""
    data = bytes([0xFB, 0xEF, 0xBE] * 40 + list(range(200)) * 3)
    text = base64.b64encode(data).decode()
    assert text.count("+") > 3
    for prefix in ("", "data:image/png;base64,"):
        with pytest.raises(Problem) as caught:
            decode_base64(prefix + text.replace("+", " "), LIMITS)
        assert caught.value.code == "image-not-base64"
        assert "plus signs" in caught.value.detail and "%2B" in (caught.value.remedy or "")
    one = "QUFB" * 3 + "A AA" + "QUFB"
    with pytest.raises(Problem, match="1 blank where"):
        decode_base64(one, LIMITS)


@pytest.mark.parametrize("width", [4, 60, 64, 76])
@pytest.mark.parametrize("between", [" ", "\n", "\r\n", " \n", "\n  "])
def test_wrapped_base64_stays_base64(width: int, between: str):
    data = bytes(range(256)) * 2
    text = base64.b64encode(data).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    assert decode_base64(between.join(lines), LIMITS) == data
    assert decode_base64(f" {between.join(lines)} \n", LIMITS) == data
