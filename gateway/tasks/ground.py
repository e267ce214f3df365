"""``/v1/ground``: the phrases of a caption to boxes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.request.body import MAX_IMAGES, PNG, Answer, ImageText, ModelName, PlainText, TaskBody, Version
from gateway.request.parsing import Sent
from gateway.tasks.detect import (
    MOST,
    OVERLAP,
    RENDER,
    THRESHOLD,
    Most,
    Overlap,
    Threshold,
    Usage,
    check_size,
    data_uri,
    rounded,
)
from gateway.tasks.task import Task, TaskCall, need_images
from services.detection import Detecting, GroundAnswer, GroundedImage, GroundRequest, Limits
from services.errors import Kind, Problem

MAX_PHRASES = 256


class GroundBody(TaskBody):
    """Where to look, and what is said of it. Fields that are null count as not sent."""

    model: ModelName | None = Field(
        None, description="A model of `/v1/models`; the server's default detector when absent"
    )
    version: Version | None = Field(None, description="A version of the model; the latest when absent", examples=["1"])
    image: ImageText | None = Field(None, description="One image, in any form that `/v1/detect` reads", examples=[PNG])
    images: Annotated[list[ImageText], Field(min_length=1), MAX_IMAGES] | None = Field(
        None, description="Several images; send either this or `image`"
    )
    caption: PlainText | None = Field(
        None,
        description="A sentence about the image, or about each of them",
        examples=["a man in a red hat holds two apples"],
    )
    captions: Annotated[list[PlainText], Field(min_length=1), MAX_IMAGES] | None = Field(
        None, description="A caption of each image instead of `caption`: as many as images"
    )
    phrases: Annotated[list[PlainText], Field(min_length=1, max_length=MAX_PHRASES)] | None = Field(
        None,
        description="What to look for, as it stands in the caption; its noun phrases when absent. A phrase that is "
        "sent twice means its second occurrence too",
        examples=[["red hat"]],
    )
    threshold: Threshold | None = Field(None, description=THRESHOLD, examples=[0.3])
    max_detections: Most | None = Field(None, description=MOST, examples=[100])
    nms_iou: Overlap | None = Field(None, description=OVERLAP, examples=[0.6])
    render: bool | None = Field(None, description=RENDER)


class PhraseBox(Answer):
    """One place where a phrase may be."""

    box: list[float] = Field(description="Left, top, right, bottom in pixels of the image as displayed")
    score: float = Field(description="From 0 to 1, each by itself")


class Phrase(Answer):
    """One phrase of the caption."""

    text: str = Field(description="As it stands in the caption")
    span: list[int] = Field(description="The first character of the caption, and the one after the last")
    boxes: list[PhraseBox] = Field(description="Best first")
    presence: float = Field(description="How likely it is in the image at all")


class Grounded(Answer):
    """The answer for one image."""

    index: int = Field(description="Which image, from 0")
    width: int = Field(description="Pixels, as displayed")
    height: int = Field(description="Pixels, as displayed")
    caption: str = Field(description="As sent")
    phrases: list[Phrase] = Field(description="In the order of the caption, or as sent")
    rendered: str | None = Field(description="As of `/v1/detect`: null unless `render`")


class Grounding(Answer):
    """Answers in the order of the images."""

    object: Literal["grounding"] = Field(description="Always `grounding`")
    model: str
    version: str
    results: list[Grounded]
    usage: Usage


def _check(sent: Sent[GroundBody]) -> None:
    """What the fields together must be."""
    body = sent.body
    need_images(sent)
    if body.caption is not None and body.captions is not None:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The captions are sent twice",
            "Send either `caption` or `captions`.",
            pointer="/captions",
        )
    if body.caption is None and body.captions is None:
        raise Problem(
            Kind.INVALID,
            "caption-missing",
            "There is no caption",
            "The request holds no caption.",
            pointer="/caption",
            remedy='Send a sentence as `caption`, such as "a man in a red hat".',
        )
    if body.captions is not None and len(body.captions) != len(sent.images):
        raise Problem(
            Kind.INVALID,
            "captions-count",
            "Captions and images are not as many",
            f"There are {len(sent.images)} images and {len(body.captions)} captions.",
            pointer="/captions",
            remedy="Send a caption for each image, or one `caption` for all.",
        )
    check_size(len(sent.images), body.max_detections, rendered=bool(body.render))


async def _run(service: Detecting, call: TaskCall[GroundBody]) -> GroundAnswer:
    body = call.body
    captions = [body.caption] * len(call.images) if body.caption is not None else body.captions or []
    asked = GroundRequest(
        call.images,
        captions,
        one_caption=body.caption is not None,
        phrases=body.phrases,
        limits=Limits(body.threshold, body.max_detections, body.nms_iou),
        render=body.render or False,
    )
    return await service.ground(call.model, asked, call.options, call.stages)


def _document(answer: GroundAnswer, body: GroundBody) -> dict[str, Any]:
    return {
        "object": "grounding",
        "model": answer.model,
        "version": answer.version,
        "results": [_result(result) for result in answer.results],
        "usage": asdict(answer.usage),
    }


def _result(result: GroundedImage) -> dict[str, Any]:
    phrases = [
        {
            "text": phrase.text,
            "span": phrase.span,
            "boxes": [{"box": rounded(one.box), "score": one.score} for one in phrase.boxes],
            "presence": phrase.presence,
        }
        for phrase in result.phrases
    ]
    return {
        "index": result.index,
        "width": result.width,
        "height": result.height,
        "caption": result.caption,
        "phrases": phrases,
        "rendered": data_uri(result.rendered),
    }


_EXAMPLES = {
    "noun phrases": {
        "summary": "All that a caption names",
        "value": {"model": "photo-detect", "image": PNG, "caption": "a man in a red hat holds two apples"},
    },
    "phrases": {
        "summary": "One of its phrases",
        "value": {"image": PNG, "caption": "a man in a red hat holds two apples", "phrases": ["red hat"]},
    },
}

GROUND = Task(
    name="ground",
    path="/v1/ground",
    tag="Detection",
    summary="Find the phrases of a caption",
    description="Where in each image is what its caption names, and how likely is it there at all? Spans count "
    "characters of the caption as sent.",
    body=GroundBody,
    answer=Grounding,
    examples=_EXAMPLES,
    service=Detecting,
    default_model=lambda sent, settings: settings.default_detector,
    check=_check,
    run=_run,
    document=_document,
    not_in_query=("captions",),
)
