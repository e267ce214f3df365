"""``/v1/classify``: images to ranked labels."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.request.body import (
    MAX_IMAGES,
    MAX_LABELS,
    MAX_TOP,
    PNG,
    Answer,
    ImageText,
    ModelName,
    PlainText,
    TaskBody,
    Version,
)
from gateway.request.parsing import Sent
from gateway.tasks.reading import Note, told
from gateway.tasks.task import Task, TaskCall, need_images
from services.classification import Classification as Classifier
from services.classification import ClassifiedImage, ClassifyAnswer, ClassifyRequest
from services.errors import Kind, Problem

MAX_TEMPLATES = 256

MOST_PREDICTIONS = 200_000
"""Images times ``top_k`` in one answer: more would be a body of tens of megabytes."""

MOST_EXPLAINED = 16
"""Images with a heat map in one answer, for the same reason."""

_TOP_K = 5


class ClassifyBody(TaskBody):
    """What to classify and into what. Fields that are null count as not sent."""

    model: ModelName | None = Field(
        None, description="A model of `/v1/models`; the server's default classifier when absent"
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
        None, description="The classes, in words", examples=[["a cat", "a dog"]]
    )
    label_set: ModelName | None = Field(
        None, description="A named list of `/v1/label-sets` instead of `labels`", examples=["imagenet-1k"]
    )
    templates: Annotated[list[PlainText], Field(min_length=1, max_length=MAX_TEMPLATES)] | None = Field(
        None,
        description="Sentences that a label fills in at `{}`, averaged; closed-set models have no use for them",
        examples=[["a photo of {}."]],
    )
    template_set: ModelName | None = Field(
        None, description="Named templates instead of `templates`: `imagenet-81` are CLIP's 80 and the bare name"
    )
    top_k: Annotated[int, Field(ge=1), MAX_TOP] | None = Field(
        None, description="How many labels to answer, best first; 5 when absent", examples=[5]
    )
    multi_label: bool | None = Field(
        None,
        description="Score each label by itself: scores need not add up to 1. An imported model that ends in a softmax "
        "or a sigmoid gives its own scores",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Leave out labels that score lower", examples=[0.1]
    )
    explain: bool | None = Field(
        None,
        description="Also draw where the model looked over each image, 16 at most; a FocalNet can, others answer 422",
    )
    truncate: bool | None = Field(
        None,
        description="Cut labels that are longer than the model reads, and say so; true when absent. False refuses them",
    )


class TruncatedLabel(Answer):
    """A label that, in some templates, was longer than the model reads."""

    index: int = Field(description="Which label, from 0")
    tokens: int = Field(description="Tokens of the longest of its texts, special ones included")
    kept: int = Field(description="How many of them the model read")
    templates: list[int] = Field(description="The templates in which it was cut, from 0")


class Prediction(Answer):
    """One label and how well it fits."""

    label: str = Field(description="As sent, or as the model's own set has it")
    score: float = Field(description="From 0 to 1")


class Explanation(Answer):
    """Which part of the image decided."""

    image: str = Field(
        description="A heat map over the image, as the data URI of a PNG of at most 512 pixels a side: yellow where "
        "the model looked most, dark where it was cut off"
    )
    method: str = Field(description="How it was made: `focal-modulation` is the length of the last block's modulator")


class Classified(Answer):
    """The answer for one image."""

    index: int = Field(description="Which image, from 0")
    width: int = Field(description="Pixels, as displayed")
    height: int = Field(description="Pixels, as displayed")
    predictions: list[Prediction] = Field(description="Best first")
    none_of_these: float | None = Field(None, description="How likely it is that no label fits, where a model can say")
    explanation: Explanation | None = None


class Classification(Answer):
    """Answers in the order of the images."""

    object: Literal["classification"] = Field(description="Always `classification`")
    model: str
    version: str
    results: list[Classified]
    truncated: list[TruncatedLabel] | None = Field(None, description="Labels that were cut; absent where none was")
    notes: list[Note] | None = Field(
        None, description="Labels that the model cannot read, or not tell apart; absent where there are none"
    )


def _check(sent: Sent[ClassifyBody]) -> None:
    """What the fields together must be."""
    body = sent.body
    need_images(sent)
    if body.labels is not None and body.label_set is not None:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The labels are sent twice",
            "Send either `labels` or `label_set`.",
            pointer="/label_set",
        )

    if body.templates is not None and body.template_set is not None:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The templates are sent twice",
            "Send either `templates` or `template_set`.",
            pointer="/template_set",
        )

    if len(sent.images) * (body.top_k or _TOP_K) > MOST_PREDICTIONS:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"Images times top_k may be {MOST_PREDICTIONS:,} at most.",
            pointer="/top_k",
            remedy="Ask for fewer labels, or send several requests.",
        )

    if body.explain and len(sent.images) > MOST_EXPLAINED:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"{len(sent.images)} images with a heat map each; at most {MOST_EXPLAINED} are explained at once.",
            pointer="/explain",
            remedy="Send fewer images, or leave explain out.",
        )


async def _run(service: Classifier, call: TaskCall[ClassifyBody]) -> ClassifyAnswer:
    body = call.body
    asked = ClassifyRequest(
        call.images,
        labels=body.labels,
        label_set=body.label_set,
        templates=body.templates,
        template_set=body.template_set,
        top_k=body.top_k or _TOP_K,
        multi_label=body.multi_label or False,
        threshold=body.threshold,
        explain=body.explain or False,
        truncate=body.truncate is not False,
    )
    return await service.classify(call.model, asked, call.options, call.stages)


def _document(answer: ClassifyAnswer, body: ClassifyBody) -> dict[str, Any]:
    document = {
        "object": "classification",
        "model": answer.model,
        "version": answer.version,
        "results": [_result(result) for result in answer.results],
    }
    reading = answer.reading
    return document | told(reading) if reading.truncated or reading.notes else document


def _result(result: ClassifiedImage) -> dict[str, Any]:
    document: dict[str, Any] = {
        "index": result.index,
        "width": result.width,
        "height": result.height,
        "predictions": result.predictions,
    }
    if result.none_of_these is not None:
        document["none_of_these"] = result.none_of_these
    if result.explanation is not None:
        png = base64.b64encode(result.explanation.png).decode()
        document["explanation"] = {"image": f"data:image/png;base64,{png}", "method": result.explanation.method}
    return document


_EXAMPLES = {
    "open vocabulary": {
        "summary": "Labels in words",
        "value": {"model": "photo-zero-shot", "image": PNG, "labels": ["a cat", "a dog"], "top_k": 2},
    },
    "closed set": {"summary": "A classifier's own labels", "value": {"model": "efficientnet-lite2", "image": PNG}},
}

CLASSIFY = Task(
    name="classify",
    path="/v1/classify",
    tag="Classification",
    summary="Classify images",
    description="Which of the labels does each image show? Images come as JSON, as file parts, or as the body "
    "itself.\n\nAn open-vocabulary model needs `labels` or `label_set`; a closed-set model answers from its own.",
    body=ClassifyBody,
    answer=Classification,
    examples=_EXAMPLES,
    service=Classifier,
    default_model=lambda sent, settings: settings.default_classifier,
    check=_check,
    run=_run,
    document=_document,
)
