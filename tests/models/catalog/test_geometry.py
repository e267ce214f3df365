"""The forms in which a card says how a picture becomes a tensor."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from models.catalog.card import Card
from models.catalog.geometry import (
    ImageGeometry,
    ImagePreprocess,
    LongerSide,
    Native,
    ShorterSide,
    Stretched,
    VideoClip,
    fixed_size,
)

READ: TypeAdapter[Any] = TypeAdapter(ImageGeometry)


@pytest.mark.parametrize(
    "form",
    [
        ImagePreprocess(size=64),
        ImagePreprocess(size=64, mode="squash"),
        LongerSide(size=640, fill=(114, 114, 114)),
        LongerSide(size=640, multiple=32),
        ShorterSide(size=800, max_size=1333, multiple=32),
        Native(multiple=14),
    ],
    ids=repr,
)
def test_every_form_is_written_and_read_again(form: Any) -> None:
    assert READ.validate_json(READ.dump_json(form)) == form
    assert hash(form) == hash(form.model_copy())


def test_a_fixed_square_is_written_as_it_always_was() -> None:
    assert list(ImagePreprocess(size=64).model_dump(mode="json").items()) == [
        ("input", "image"),
        ("size", 64),
        ("resize", None),
        ("mode", "shorter-crop"),
        ("interpolation", "bicubic"),
        ("mean", [0.485, 0.456, 0.406]),
        ("std", [0.229, 0.224, 0.225]),
    ]


def test_a_form_without_a_mode_is_cropped_as_before() -> None:
    assert READ.validate_python({"size": 64}) == ImagePreprocess(size=64, mode="shorter-crop")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "diagonal", "size": 64},
        {"mode": "native", "size": 64},
        {"mode": "shorter-side", "size": 64},
        {"mode": "squash", "size": 64, "fill": [0, 0, 0]},
        {"mode": "longer-side", "size": 64, "fill": "black"},
    ],
)
def test_a_form_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        READ.validate_python(wrong)


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'squash', 'longer-side', 'shorter-side', 'native'"):
        READ.validate_python({"mode": "diagonal", "size": 64})


def test_a_film_has_a_form_for_its_frames() -> None:
    clip = VideoClip.model_validate({"frames": 16, "frame": {"mode": "shorter-side", "size": 224, "max_size": 400}})
    assert clip.frame == ShorterSide(size=224, max_size=400)
    about = {"name": "m", "task": "tensor", "family": "f", "title": "t", "description": "d"}
    card = Card.model_validate({**about, "licence": {"spdx": "CC0-1.0"}, "video": clip.model_dump(mode="json")})
    assert (card.video, card.image) == (clip, None)


@pytest.mark.parametrize(
    ("form", "side", "fixed"),
    [
        (ImagePreprocess(size=64), 64, 64),
        (LongerSide(size=100), 100, 100),
        (LongerSide(size=100, multiple=32), 128, None),
        (ShorterSide(size=100, max_size=60, multiple=32), 64, None),
        (Native(multiple=14), 224, None),
        (Native(multiple=32, max_size=100), 128, None),
    ],
)
def test_the_side_of_a_square_picture(form: Any, side: int, fixed: int | None) -> None:
    assert (form.side, fixed_size(form)) == (side, None if fixed is None else (fixed, fixed))


def test_a_stretched_tensor_is_as_wide_and_high_as_it_says() -> None:
    form = Stretched(width=320, height=240)
    assert (form.side, fixed_size(form)) == (320, (240, 320))
    assert READ.validate_json(READ.dump_json(form)) == form
