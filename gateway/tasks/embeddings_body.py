"""Bodies of ``/v1/embeddings``: OpenAI's, and images as an extension."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.request.body import MAX_IMAGES, Answer, Body, Encoding, ImageText, ModelName, PlainText

MAX_INPUTS = 2048
MAX_DIMENSIONS = 65_536


class EmbeddingsBody(Body):
    """Texts or images to embed. Fields that are null count as not sent."""

    model: ModelName | None = Field(
        None,
        description="A model of `/v1/models`; the server's default text encoder when absent",
        examples=["minilm-l6"],
    )
    input: PlainText | Annotated[list[PlainText], Field(min_length=1, max_length=MAX_INPUTS)] | None = Field(
        None, description="One text, or several; arrays of tokens are not read", examples=[["a red apple"]]
    )
    image: ImageText | None = Field(
        None, description="One image instead of texts, in any form that `/v1/classify` reads"
    )
    images: Annotated[list[ImageText], Field(min_length=1, max_length=MAX_IMAGES)] | None = Field(
        None, description="Several images instead of texts"
    )
    encoding_format: Encoding | None = Field(None, description="`base64` is little-endian float32; `float` when absent")
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)] | None = Field(
        None, description="Keep the first so many numbers and normalise again; all when absent"
    )
    user: PlainText | None = Field(None, description="Accepted for compatibility, and not used")

    @model_validator(mode="after")
    def _one_of(self) -> EmbeddingsBody:
        if sum(given is not None for given in (self.input, self.image, self.images)) != 1:
            raise ValueError("send one of input, image and images")
        return self


class Embedding(Answer):
    """One embedding."""

    object: Literal["embedding"] = Field(description="Always `embedding`")
    index: int = Field(description="Which input, from 0")
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32")


class Usage(Answer):
    """What the request cost."""

    prompt_tokens: int = Field(description="Tokens of all texts; 0 for images")
    total_tokens: int


class Embeddings(Answer):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Embedding]
    model: str
    version: str
    usage: Usage
