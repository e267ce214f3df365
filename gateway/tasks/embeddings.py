"""``/v1/embeddings``: OpenAI's endpoint for texts, and the same for images."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gateway.request.body import MAX_IMAGES, PNG, Answer, Encoding, ImageText, ModelName, PlainText, TaskBody
from gateway.request.parsing import Sent
from gateway.tasks.reading import Note, told
from gateway.tasks.task import UNIT_TEXTS, Size, Task, TaskCall, ordinary_cost, units
from services.embedding import Embedded
from services.embedding import Embedding as Embedder
from services.errors import Kind, Problem
from services.settings import Settings

MAX_INPUTS = 2048
MAX_DIMENSIONS = 65_536


class EmbeddingsBody(TaskBody):
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
    images: Annotated[list[ImageText], Field(min_length=1), MAX_IMAGES] | None = Field(
        None, description="Several images instead of texts"
    )
    encoding_format: Encoding | None = Field(None, description="`base64` is little-endian float32; `float` when absent")
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)] | None = Field(
        None, description="Keep the first so many numbers and normalise again; all when absent"
    )
    truncate: bool | None = Field(
        None,
        description="Cut texts that are longer than the model reads, and say so; true when absent. False refuses them",
    )
    user: PlainText | None = Field(None, description="Accepted for compatibility, and not used")


class Embedding(Answer):
    """One embedding."""

    object: Literal["embedding"] = Field(description="Always `embedding`")
    index: int = Field(description="Which input, from 0")
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32")


class TruncatedText(Answer):
    """A text that was longer than the model reads."""

    index: int = Field(description="Which input, from 0")
    tokens: int = Field(description="Tokens of the whole text, special ones included")
    kept: int = Field(description="How many of them the model read")


class Usage(Answer):
    """What the request cost."""

    prompt_tokens: int = Field(description="Tokens that were read of all texts; 0 for images")
    total_tokens: int


class Embeddings(Answer):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Embedding]
    model: str
    version: str
    usage: Usage
    truncated: list[TruncatedText] | None = Field(None, description="Texts that were cut; absent where none was")
    notes: list[Note] | None = Field(None, description="What else is to be known of the texts; absent where nothing")


def _default_model(sent: Sent[EmbeddingsBody], settings: Settings) -> str:
    """The text encoder or the classifier, as what is sent says; raises where it is both or nothing."""
    texts = sent.body.input
    if texts is not None and sent.images:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "Texts and images are sent together",
            "Send either `input` or images.",
            pointer="/input",
            remedy="Send two requests.",
        )

    if texts is not None:
        return settings.default_text_encoder
    if not sent.images:
        raise Problem(
            Kind.INVALID,
            "input-missing",
            "There is nothing to embed",
            "The request holds neither a text nor an image.",
            pointer="/input",
            remedy="Send `input`, `image` or `images`.",
        )

    return settings.default_classifier


def _cost(body: EmbeddingsBody, size: Size) -> int:
    if isinstance(body.input, list):
        return units(len(body.input) / UNIT_TEXTS)
    return ordinary_cost(body, size)


async def _run(service: Embedder, call: TaskCall[EmbeddingsBody]) -> Embedded:
    body = call.body
    if body.input is None:
        return await service.images(call.model, call.images, body.dimensions, call.options, call.stages)
    texts = [body.input] if isinstance(body.input, str) else body.input
    return await service.texts(
        call.model,
        texts,
        body.dimensions,
        call.options,
        call.stages,
        truncate=body.truncate is not False,
    )


def _document(embedded: Embedded, body: EmbeddingsBody) -> dict[str, Any]:
    vectors = np.ascontiguousarray(embedded.vectors, "<f4")
    data: list[Any] = list(vectors)
    if body.encoding_format == "base64":
        data = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(data)],
        "model": embedded.model,
        "version": embedded.version,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
        **told(embedded.reading),
    }


_EXAMPLES = {
    "texts": {"summary": "Texts", "value": {"model": "minilm-l6", "input": ["a red apple", "a green pear"]}},
    "images": {"summary": "An image", "value": {"model": "efficientnet-lite2", "image": PNG}},
}

EMBEDDINGS = Task(
    name="embed",
    path="/v1/embeddings",
    tag="Embeddings",
    summary="Embed texts or images",
    description="Unit vectors of texts (`input`) or of images, in order. OpenAI's clients work unchanged.",
    body=EmbeddingsBody,
    answer=Embeddings,
    examples=_EXAMPLES,
    service=lambda backend, settings: Embedder(),
    default_model=_default_model,
    run=_run,
    cost=_cost,
    document=_document,
    not_in_query=("input",),
)
