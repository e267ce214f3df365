"""``/v1/detect``: images to boxes with labels."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.request.body import (
    MAX_IMAGES,
    MAX_LABELS,
    PNG,
    Answer,
    Body,
    ImageText,
    ModelName,
    PlainText,
    TaskBody,
    Version,
)
from gateway.request.parsing import Sent
from gateway.tasks.task import Size, Task, TaskCall, need_images, ordinary_cost, units
from services.detection import DetectAnswer, DetectedImage, Detecting, DetectRequest, LabelledExample, Limits
from services.errors import Kind, Problem

MAX_EXAMPLES = 32

MAX_DETECTIONS = 10_000

MOST_DETECTIONS = 200_000
"""Images times ``max_detections`` in one answer: more would be a body of tens of megabytes."""

MOST_RENDERED = 16
"""Images with their boxes drawn in, in one answer, for the same reason."""

UNIT_SCORES = 2_000_000
"""Images times labels that one unit of admission stands for, each in a few hundred boxes."""

Threshold = Annotated[float, Field(ge=0, le=1)]
Overlap = Annotated[float, Field(ge=0.01, le=1)]
Most = Annotated[int, Field(ge=1, le=MAX_DETECTIONS)]

THRESHOLD = "Leave out boxes that score lower; as the model's card says when absent"
MOST = "Boxes of one image at most, the best; as the model's card says when absent"
OVERLAP = (
    "Of two boxes of one label that overlap by more, intersection over union, the better is kept; 1 keeps all. As the "
    "model's card says when absent"
)
RENDER = "Also draw the boxes into each image, 16 at most"


class ExampleBody(Body):
    """A part of an image that shows what is looked for."""

    label: PlainText = Field(description="What to call it; one of `labels` that it adds to, or a name of its own")
    image: ImageText | None = Field(None, description="The image; the one that is asked about when absent")
    box: Annotated[list[float], Field(min_length=4, max_length=4)] = Field(
        description="Where it is: left, top, right, bottom in pixels as displayed"
    )


class DetectBody(TaskBody):
    """Where to look and what for. Fields that are null count as not sent."""

    model: ModelName | None = Field(
        None, description="A model of `/v1/models`; the server's default detector when absent"
    )
    version: Version | None = Field(None, description="A version of the model; the latest when absent", examples=["1"])
    image: ImageText | None = Field(
        None,
        description="One image: data URI, base64, `artifact:{id}`, or an https address where the server allows it",
        examples=[PNG],
    )
    images: Annotated[list[ImageText], Field(min_length=1), MAX_IMAGES] | None = Field(
        None, description="Several images; send either this or `image`"
    )
    labels: Annotated[list[PlainText], Field(min_length=1), MAX_LABELS] | None = Field(
        None, description="What to look for, in words", examples=[["person", "red car"]]
    )
    label_set: ModelName | None = Field(None, description="A named list of `/v1/label-sets` instead of `labels`")
    labels_per_image: (
        Annotated[
            list[Annotated[list[PlainText], Field(min_length=1), MAX_LABELS]],
            Field(min_length=1),
            MAX_IMAGES,
        ]
        | None
    ) = Field(None, description="Labels of each image instead of `labels`: as many lists as images")
    negative_labels: Annotated[list[PlainText], Field(min_length=1), MAX_LABELS] | None = Field(
        None,
        description="What must not be taken for one of the labels: boxes that show it better are left out",
        examples=[["statue"]],
    )
    examples: Annotated[list[ExampleBody], Field(min_length=1, max_length=MAX_EXAMPLES)] | None = Field(
        None, description="Things to look for that are shown instead of named"
    )
    threshold: Threshold | None = Field(None, description=THRESHOLD, examples=[0.3])
    max_detections: Most | None = Field(None, description=MOST, examples=[100])
    nms_iou: Overlap | None = Field(None, description=OVERLAP, examples=[0.6])
    render: bool | None = Field(None, description=RENDER)


class Detection(Answer):
    """One thing that was found."""

    label: str = Field(description="As sent, or as the model's own set has it")
    score: float = Field(description="From 0 to 1, each by itself")
    box: list[float] = Field(description="Left, top, right, bottom in pixels of the image as displayed")


class Presence(Answer):
    """How likely a label is in the image at all."""

    label: str
    score: float = Field(description="A calibrated probability where the model's card has a calibration")


class Detected(Answer):
    """The answer for one image."""

    index: int = Field(description="Which image, from 0")
    width: int = Field(description="Pixels, as displayed")
    height: int = Field(description="Pixels, as displayed")
    detections: list[Detection] = Field(description="Best first")
    presence: list[Presence] = Field(
        description="Of every label in order; the most likely ones where images times labels exceed 200,000"
    )
    rendered: str | None = Field(
        description="The image with its boxes as a data URI, JPEG where it came as one, else PNG; longer side at most "
        "2,048 pixels. null unless `render`"
    )


class Usage(Answer):
    """What the request cost."""

    labels: int = Field(description="Labels or phrases looked for, of all images together")
    prompt_tokens: int = Field(description="Tokens of text read together with the images, where the model does so")
    chunks: int = Field(description="Runs that the longest vocabulary was split into; above 1 Server-Timing says so")
    proposals: int = Field(description="Boxes looked at")
    boxes: int = Field(description="Boxes answered")


class Detections(Answer):
    """Answers in the order of the images."""

    object: Literal["detection"] = Field(description="Always `detection`")
    model: str
    version: str
    results: list[Detected]
    usage: Usage


def _check(sent: Sent[DetectBody]) -> None:
    """What the fields together must be."""
    body = sent.body
    need_images(sent)
    named = [name for name in ("labels", "label_set", "labels_per_image") if getattr(body, name) is not None]
    if len(named) > 1:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The labels are sent twice",
            f"There are `{named[0]}` and `{named[1]}`.",
            pointer=f"/{named[1]}",
            remedy="Send one of `labels`, `label_set` and `labels_per_image`.",
        )
    check_size(len(sent.images), body.max_detections, rendered=bool(body.render))


def check_size(images: int, most: int | None, *, rendered: bool) -> None:
    """Raise ``answer-too-large``."""
    if images * (most or 0) > MOST_DETECTIONS:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"Images times max_detections may be {MOST_DETECTIONS:,} at most.",
            pointer="/max_detections",
            remedy="Ask for fewer boxes, or send several requests.",
        )
    if rendered and images > MOST_RENDERED:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"{images} images with their boxes drawn in; at most {MOST_RENDERED} are drawn at once.",
            pointer="/render",
            remedy="Send fewer images, or leave render out.",
        )


def _cost(body: DetectBody, size: Size) -> int:
    """Examples are images that are encoded; many labels are many scores of every box."""
    most = len(body.labels or ()) or max(map(len, body.labels_per_image or ((),)))
    examples = len(body.examples or ())
    ordinary = ordinary_cost(body, Size(size.images + examples, size.pixels))
    return max(ordinary, units(size.images * most / UNIT_SCORES))


def _examples(call: TaskCall[DetectBody]) -> list[LabelledExample]:
    found = []
    for index, example in enumerate(call.body.examples or ()):
        left, top, right, bottom = example.box
        picture = call.others.get(f"/examples/{index}/image")
        found.append(LabelledExample(example.label, (left, top, right, bottom), picture))
    return found


async def _run(service: Detecting, call: TaskCall[DetectBody]) -> DetectAnswer:
    body = call.body
    asked = DetectRequest(
        call.images,
        labels=body.labels,
        label_set=body.label_set,
        labels_per_picture=body.labels_per_image,
        negative_labels=body.negative_labels or (),
        examples=_examples(call),
        limits=Limits(body.threshold, body.max_detections, body.nms_iou),
        render=body.render or False,
    )
    return await service.detect(call.model, asked, call.options, call.stages)


def _document(answer: DetectAnswer, body: DetectBody) -> dict[str, Any]:
    return {
        "object": "detection",
        "model": answer.model,
        "version": answer.version,
        "results": [_result(result) for result in answer.results],
        "usage": asdict(answer.usage),
    }


def _result(result: DetectedImage) -> dict[str, Any]:
    return {
        "index": result.index,
        "width": result.width,
        "height": result.height,
        "detections": [{"label": one.label, "score": one.score, "box": rounded(one.box)} for one in result.detections],
        "presence": result.presence,
        "rendered": data_uri(result.rendered),
    }


def rounded(box: Sequence[float]) -> list[float]:
    """Hundredths of a pixel: float32 has no more to say of a photo."""
    return [round(edge, 2) for edge in box]


def data_uri(file: bytes | None) -> str | None:
    """A rendered image, which is a JPEG or a PNG."""
    if file is None:
        return None
    kind = "jpeg" if file.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


_EXAMPLES = {
    "open vocabulary": {
        "summary": "Labels in words",
        "value": {"model": "photo-detect", "image": PNG, "labels": ["person", "red car"], "threshold": 0.3},
    },
    "closed set": {"summary": "A detector's own labels", "value": {"model": "nanodet-coco", "image": PNG}},
    "by example": {
        "summary": "Find more of what a box shows",
        "value": {"image": PNG, "examples": [{"label": "my part", "box": [0, 0, 16, 16]}]},
    },
}

DETECT = Task(
    name="detect",
    path="/v1/detect",
    tag="Detection",
    summary="Find things in images",
    description="Where in each image are the things that the labels name, or that the examples show, and how likely is "
    "each of them in the image at all? Images come as JSON, as file parts, or as the body itself.\n\nAn "
    "open-vocabulary detector needs `labels`, `label_set`, `labels_per_image` or `examples`; a closed-set detector "
    "finds its own classes.",
    body=DetectBody,
    answer=Detections,
    examples=_EXAMPLES,
    service=Detecting,
    default_model=lambda sent, settings: settings.default_detector,
    check=_check,
    cost=_cost,
    run=_run,
    document=_document,
)
