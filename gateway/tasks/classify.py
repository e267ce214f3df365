"""``/v1/classify``: pictures to ranked labels."""

from __future__ import annotations

import base64
import time
from typing import Any

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
from gateway.tasks.classify_body import Classification, ClassifyBody
from services.classification import ClassifiedImage, ClassifyAnswer, ClassifyRequest
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle

router = APIRouter(tags=["Classification"])

MOST_PREDICTIONS = 200_000
"""Images times ``top_k`` in one answer: more would be a body of tens of megabytes."""

MOST_EXPLAINED = 16
"""Images with a heat map in one answer, for the same reason."""

_TOP_K = 5
_QUERY = (
    "model",
    "version",
    "labels",
    "label_set",
    "templates",
    "template_set",
    "top_k",
    "multi_label",
    "threshold",
    "explain",
)
_EXAMPLES = {
    "open vocabulary": {
        "summary": "Labels in words",
        "value": {"model": "photo-zero-shot", "image": PNG, "labels": ["a cat", "a dog"], "top_k": 2},
    },
    "closed set": {"summary": "A classifier's own labels", "value": {"model": "efficientnet-lite2", "image": PNG}},
}


@router.post(
    "/v1/classify",
    summary="Classify images",
    response_model=Classification,
    responses=openapi.refusals(*openapi.ASKED, *openapi.WITH_BODY, *openapi.WITH_QUERY, 404, 504),
    openapi_extra=openapi.body(ClassifyBody, _EXAMPLES, openapi.files(ClassifyBody))
    | {"parameters": openapi.query_fields(ClassifyBody, *_QUERY)},
)
async def classify(request: Request) -> Response:
    """Which of the labels does each image show? Images come as JSON, as file parts, or as the body itself.

    An open-vocabulary model needs `labels` or `label_set`; a closed-set model answers from its own.
    """
    allow(request, "infer")
    context, request_context = context_of(request), RequestContext.of(request.scope)
    request_context.task = "classify"
    settings = context.settings
    with context.admission as admission:
        sent = await read_images(request, context.forms.classify, settings.max_images, admission.turn)
        with await context.resolve(request_context, sent.fields, settings.default_classifier) as model:
            _check(sent)
            answer = await while_connected(request.receive, _answer(context, request_context, sent, model))
    begin = time.perf_counter()
    content = orjson.dumps(_document(answer))
    request_context.stages.encode += time.perf_counter() - begin
    return Response(content, media_type="application/json")


FAST_ROUTES = (FastRoute("/v1/classify", classify, methods=["POST"], include_in_schema=False),)
"""See ``gateway.app``."""


def _check(sent: Sent) -> None:
    """What the fields together must be."""
    fields = sent.fields
    if not sent.images:
        raise Problem(
            Kind.INVALID,
            "image-missing",
            "There is no image",
            "The request holds no image.",
            pointer="/image",
            remedy="Send `image`, or several as `images`.",
        )
    if "labels" in fields and "label_set" in fields:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The labels are sent twice",
            "Send either `labels` or `label_set`.",
            pointer="/label_set",
        )
    if "templates" in fields and "template_set" in fields:
        raise Problem(
            Kind.INVALID,
            "field-conflict",
            "The templates are sent twice",
            "Send either `templates` or `template_set`.",
            pointer="/template_set",
        )
    if len(sent.images) * fields.get("top_k", _TOP_K) > MOST_PREDICTIONS:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"Images times top_k may be {MOST_PREDICTIONS:,} at most.",
            pointer="/top_k",
            remedy="Ask for fewer labels, or send several requests.",
        )
    if fields.get("explain") and len(sent.images) > MOST_EXPLAINED:
        raise Problem(
            Kind.INVALID,
            "answer-too-large",
            "The answer would be too large",
            f"{len(sent.images)} images with a heat map each; at most {MOST_EXPLAINED} are explained at once.",
            pointer="/explain",
            remedy="Send fewer images, or leave explain out.",
        )


async def _answer(context: Context, request_context: RequestContext, sent: Sent, model: ModelHandle) -> ClassifyAnswer:
    fields = sent.fields
    async with context.read_pictures(request_context, sent.images) as pictures:
        asked = ClassifyRequest(
            pictures,
            labels=fields.get("labels"),
            label_set=fields.get("label_set"),
            templates=fields.get("templates"),
            template_set=fields.get("template_set"),
            top_k=fields.get("top_k", _TOP_K),
            multi_label=fields.get("multi_label", False),
            threshold=fields.get("threshold"),
            explain=fields.get("explain", False),
        )
        return await context.classification.classify(model, asked, request_context.options(), request_context.stages)


def _document(answer: ClassifyAnswer) -> dict[str, Any]:
    return {
        "object": "classification",
        "model": answer.model,
        "version": answer.version,
        "results": [_result(result) for result in answer.results],
    }


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
