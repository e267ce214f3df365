"""Bodies of ``/v1/classify``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.request.body import MAX_IMAGES, MAX_LABELS, PNG, Answer, Body, ImageText, ModelName, PlainText, Version

MAX_TEMPLATES = 256


class ClassifyBody(Body):
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
    images: Annotated[list[ImageText], Field(min_length=1, max_length=MAX_IMAGES)] | None = Field(
        None, description="Several images; send either this or `image`"
    )
    labels: Annotated[list[PlainText], Field(min_length=1, max_length=MAX_LABELS)] | None = Field(
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
    top_k: Annotated[int, Field(ge=1, le=MAX_LABELS)] | None = Field(
        None, description="How many labels to answer, best first; 5 when absent", examples=[5]
    )
    multi_label: bool | None = Field(None, description="Score each label by itself: scores need not add up to 1")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Leave out labels that score lower", examples=[0.1]
    )
    explain: bool | None = Field(
        None,
        description="Also draw where the model looked over each image, 16 at most; a FocalNet can, others answer 422",
    )

    @model_validator(mode="after")
    def _one_of(self) -> ClassifyBody:
        if (self.image is None) == (self.images is None):
            raise ValueError("send either image or images")
        if self.labels is not None and self.label_set is not None:
            raise ValueError("send either labels or label_set")
        if self.templates is not None and self.template_set is not None:
            raise ValueError("send either templates or template_set")
        return self


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
