"""``/v1/embeddings``: OpenAI's endpoint for texts, and the same for images."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.request.body import PNG
from gateway.request.disconnect import while_connected
from gateway.request.fast_route import FastRoute
from gateway.request.parsing import Sent, read_images
from gateway.request.request_context import RequestContext
from gateway.tasks.embeddings_body import Embeddings, EmbeddingsBody
from services.embedding import Embedded
from services.errors import Kind, Problem

router = APIRouter(tags=["Embeddings"])

_EXAMPLES = {
    "texts": {"summary": "Texts", "value": {"model": "minilm-l6", "input": ["a red apple", "a green pear"]}},
    "images": {"summary": "An image", "value": {"model": "efficientnet-lite2", "image": PNG}},
}


@router.post(
    "/v1/embeddings",
    summary="Embed texts or images",
    response_model=Embeddings,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, *openapi.WITH_QUERY, 404, 504),
    openapi_extra=openapi.body(EmbeddingsBody, _EXAMPLES, openapi.files(EmbeddingsBody))
    | {"parameters": openapi.query_fields(EmbeddingsBody, "model", "encoding_format", "dimensions", "user")},
)
async def embed(request: Request) -> Response:
    """Unit vectors of texts (`input`) or of images, in order. OpenAI's clients work unchanged."""
    allow(request, "infer")
    context, request_context = context_of(request), RequestContext.of(request.scope)
    request_context.task = "embed"
    with context.admission as admission:
        sent = await read_images(request, context.forms.embeddings, context.settings.max_images, admission.turn)
        embedded = await while_connected(request.receive, _embedded(context, request_context, sent))
    begin = time.perf_counter()
    content = orjson.dumps(
        _document(embedded, sent.fields.get("encoding_format", "float")), option=orjson.OPT_SERIALIZE_NUMPY
    )
    request_context.stages.encode += time.perf_counter() - begin
    return Response(content, media_type="application/json")


FAST_ROUTES = (FastRoute("/v1/embeddings", embed, methods=["POST"], include_in_schema=False),)
"""See ``gateway.app``."""


async def _embedded(context: Context, request_context: RequestContext, sent: Sent) -> Embedded:
    settings, fields = context.settings, sent.fields
    texts: list[str] | None = fields.get("input")
    dimensions: int | None = fields.get("dimensions")
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
        with await context.resolve(request_context, fields, settings.default_text_encoder) as model:
            return await context.embedding.texts(
                model, texts, dimensions, request_context.options(), request_context.stages
            )
    if not sent.images:
        raise Problem(
            Kind.INVALID,
            "input-missing",
            "There is nothing to embed",
            "The request holds neither a text nor an image.",
            pointer="/input",
            remedy="Send `input`, `image` or `images`.",
        )
    with await context.resolve(request_context, fields, settings.default_classifier) as model:
        async with context.read_pictures(request_context, sent.images) as pictures:
            return await context.embedding.images(
                model, pictures, dimensions, request_context.options(), request_context.stages
            )


def _document(embedded: Embedded, encoding: str) -> dict[str, Any]:
    vectors = np.ascontiguousarray(embedded.vectors, "<f4")
    data: list[Any] = list(vectors)
    if encoding == "base64":
        data = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(data)],
        "model": embedded.model,
        "version": embedded.version,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }
