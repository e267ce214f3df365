"""Bodies of any shape become forms: what is nested is checked as pydantic would, and pointers lead to the place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
import pytest
from pydantic import Field, ValidationError

from gateway.request.body import MAX_IMAGES, MAX_LABELS, Body, ImageText, ModelName, PlainText
from gateway.request.form import form_of
from gateway.request.nested import Form, images_in
from services.errors import Kind, Problem
from services.settings import Settings

SETTINGS = Settings()

Box = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=4, max_length=4)]
Labels = Annotated[list[PlainText], Field(min_length=1), MAX_LABELS]


class Example(Body):
    label: PlainText
    image: ImageText | None = None
    box: Box


class GradientFlow(Body):
    method: Literal["gradient_flow"]
    steps: Annotated[int, Field(ge=1, le=100)] = 25


class Truncation(Body):
    method: Literal["truncation"]
    psi: Annotated[float, Field(ge=0, le=1)]


class TextPart(Body):
    type: Literal["text"]
    text: PlainText


class ImagePart(Body):
    type: Literal["image"]
    detail: Literal["low", "high"] | None = None


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Body):
    role: Literal["system", "user", "assistant"]
    content: PlainText | Annotated[list[Part], Field(min_length=1, max_length=8)]


class EverythingBody(Body):
    image: ImageText | None = None
    images: Annotated[list[ImageText], Field(min_length=1), MAX_IMAGES] | None = None
    mask: ImageText | None = None
    examples: Annotated[list[Example], Field(min_length=1, max_length=3)] | None = None
    refine: Annotated[GradientFlow | Truncation, Field(discriminator="method")] | None = None
    labels_per_image: Annotated[list[Labels], Field(min_length=1), MAX_IMAGES] | None = None
    messages: Annotated[list[Message], Field(max_length=4)] | None = None
    weights: Annotated[dict[ModelName, Annotated[float, Field(ge=0, le=1)]], Field(max_length=2)] | None = None
    seed: int | None = None
    strength: float = 0.5


FORM = form_of(EverythingBody, SETTINGS)

EXAMPLE: dict[str, Any] = {"label": "part", "box": [0, 0, 1, 1.5]}
USER: dict[str, Any] = {"role": "user", "content": "hello"}

BODIES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"examples": [EXAMPLE]}, None),
    ({"examples": [{**EXAMPLE, "image": "aGk="}, EXAMPLE]}, None),
    ({"examples": []}, "/examples"),
    ({"examples": [EXAMPLE] * 4}, "/examples"),
    ({"examples": EXAMPLE}, "/examples"),
    ({"examples": [EXAMPLE, "x"]}, "/examples/1"),
    ({"examples": [{**EXAMPLE, "image": None}]}, None),
    ({"examples": [{**EXAMPLE, "label": None}]}, "/examples/0/label"),
    ({"examples": [{"box": [0, 0, 1, 1]}]}, "/examples/0/label"),
    ({"examples": [EXAMPLE, {**EXAMPLE, "lable": "x"}]}, "/examples/1/lable"),
    ({"examples": [{**EXAMPLE, "a/b~c": 1}]}, "/examples/0/a~1b~0c"),
    ({"examples": [{**EXAMPLE, "box": [0, 0, 1]}]}, "/examples/0/box"),
    ({"examples": [{**EXAMPLE, "box": [0, 0, 1, 1, 1]}]}, "/examples/0/box"),
    ({"examples": [{**EXAMPLE, "box": [0, "0", 1, 1]}]}, "/examples/0/box/1"),
    ({"examples": [{**EXAMPLE, "box": [0, 0, 1, -1]}]}, "/examples/0/box/3"),
    ({"refine": {"method": "gradient_flow"}}, None),
    ({"refine": {"method": "truncation", "psi": 0.5}}, None),
    ({"refine": {"method": "truncation", "steps": 3}}, "/refine/steps"),
    ({"refine": {"method": "truncation"}}, "/refine/psi"),
    ({"refine": {"method": "other"}}, "/refine/method"),
    ({"refine": {"method": 3}}, "/refine/method"),
    ({"refine": {"steps": 3}}, "/refine/method"),
    ({"refine": {"method": "gradient_flow", "steps": 101}}, "/refine/steps"),
    ({"refine": []}, "/refine"),
    ({"labels_per_image": [["a"], ["b", "c"]]}, None),
    ({"labels_per_image": [["a"], []]}, "/labels_per_image/1"),
    ({"labels_per_image": [["a"], ["b", " "]]}, "/labels_per_image/1/1"),
    ({"labels_per_image": ["a"]}, "/labels_per_image/0"),
    ({"messages": []}, None),
    ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "image"}]}]}, None),
    ({"messages": [USER, {"role": "robot", "content": "x"}]}, "/messages/1/role"),
    ({"messages": [{"role": "user"}]}, "/messages/0/content"),
    ({"messages": [{**USER, "content": 3}]}, "/messages/0/content"),
    ({"messages": [{**USER, "content": ""}]}, "/messages/0/content"),
    ({"messages": [{**USER, "content": [{"type": "text"}]}]}, "/messages/0/content/0/text"),
    ({"messages": [{**USER, "content": [{"type": "image", "detail": "huge"}]}]}, "/messages/0/content/0/detail"),
    ({"weights": {"a": 0.5, "b": 1}}, None),
    ({"weights": {"a": 0.5, "b": 1.5}}, "/weights/b"),
    ({"weights": {"a": 0.5, "": 1}}, "/weights/"),
    ({"weights": {"a": 0, "b": 0, "c": 0}}, "/weights"),
    ({"weights": [1]}, "/weights"),
    ({"seed": 2**63 - 1}, None),
    ({"seed": True}, "/seed"),
    ({"strength": 7}, None),
    ({"strength": None}, "/strength"),
]


@pytest.mark.parametrize(("body", "pointer"), BODIES, ids=[str(body)[:70] for body, _ in BODIES])
def test_a_nested_form_accepts_what_the_class_does_and_points_at_what_is_wrong(
    body: dict[str, Any], pointer: str | None
) -> None:
    try:
        EverythingBody.model_validate_json(orjson.dumps(body))
        valid = True
    except ValidationError:
        valid = False
    assert valid == (pointer is None)
    if pointer is None:
        FORM.read(body)
        return
    with pytest.raises(Problem) as caught:
        FORM.read(body)
    assert (caught.value.kind, caught.value.pointer) == (Kind.INVALID, pointer)


def test_what_is_read_is_the_body_with_its_defaults() -> None:
    sent = {"examples": [{**EXAMPLE, "image": "aGk="}], "refine": {"method": "gradient_flow"}, "messages": [USER]}
    body = FORM.made(FORM.read(sent))
    assert body == EverythingBody.model_validate_json(orjson.dumps(sent))
    assert body.examples is not None and isinstance(body.examples[0], Example)
    assert isinstance(body.refine, GradientFlow) and body.refine.steps == 25


def test_images_are_found_wherever_they_stand() -> None:
    body = FORM.made(FORM.read({"mask": "bWFzaw==", "examples": [EXAMPLE, {**EXAMPLE, "image": "aGk="}], "seed": 1}))
    assert list(images_in(FORM, body, "")) == [("/mask", "bWFzaw=="), ("/examples/1/image", "aGk=")]
    assert (FORM.holding_images, FORM.files) == (("mask", "examples"), ("mask",))


def test_a_server_holds_requests_to_its_own_limits() -> None:
    form = form_of(EverythingBody, Settings(max_images=2, max_labels=1, max_text_chars=16))
    form.read({"images": ["a", "b"], "labels_per_image": [["x" * 16]]})
    for body, code in (
        ({"images": ["a"] * 3}, "array-too-long"),
        ({"labels_per_image": [["a", "b"]]}, "array-too-long"),
        ({"labels_per_image": [["x" * 17]]}, "text-too-long"),
    ):
        with pytest.raises(Problem) as caught:
            form.read(body)
        assert caught.value.code == code


def test_what_consists_of_others_cannot_be_a_query_parameter() -> None:
    assert FORM.query([("seed", "3"), ("strength", "0.25")]) == {"seed": 3, "strength": 0.25}
    for name in ("examples", "refine", "labels_per_image", "messages", "weights"):
        with pytest.raises(Problem) as caught:
            FORM.query([(name, "x")])
        assert caught.value.pointer == f"/{name}"


class Plain(Body):
    text: str


class Endless(Body):
    texts: list[PlainText]


class Pattern(Body):
    name: Annotated[PlainText, Field(pattern="^a")]


class Open(Body):
    share: Annotated[float, Field(gt=0)]


class Ambiguous(Body):
    value: Annotated[list[PlainText], Field(max_length=2)] | Annotated[list[int], Field(max_length=2)]


class Aliased(Body):
    name: PlainText = Field(alias="other")


@pytest.mark.parametrize("body", [Plain, Endless, Pattern, Open, Ambiguous, Aliased])
def test_a_class_that_says_more_than_a_form_checks_is_refused_at_the_start(body: type[Body]) -> None:
    with pytest.raises(TypeError, match=rf"{body.__name__}\.\w+: "):
        form_of(body, SETTINGS)


def test_a_whole_request_is_complete_without_its_images() -> None:
    class CaptionBody(Body):
        image: ImageText
        mask: ImageText
        prompt: PlainText

    form: Form[CaptionBody] = form_of(CaptionBody, SETTINGS)
    assert form.read({"prompt": "x"}) == {"prompt": "x"}
    with pytest.raises(Problem) as caught:
        form.read({})
    assert (caught.value.code, caught.value.pointer) == ("field-missing", "/prompt")
