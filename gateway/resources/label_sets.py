"""``/v1/label-sets``: lists of labels that a request may name instead of sending them."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi
from gateway.middleware.keys import allow
from gateway.resources.schemas.models import LabelSet, LabelSetList
from models.catalog.labels import LabelError, label_set, label_sets
from services.errors import Kind, Problem

router = APIRouter(prefix="/v1/label-sets", tags=["Models"])


@router.get("", summary="List label sets", response_model=LabelSetList, responses=openapi.refusals(*openapi.ASKED))
async def list_label_sets(request: Request) -> Response:
    """Every label set by name, with its length."""
    allow(request, "infer")
    data = [{"id": name, "object": "label_set", "count": len(label_set(name))} for name in label_sets()]
    return Response(orjson.dumps({"object": "list", "data": data}), media_type="application/json")


@router.get(
    "/{name}",
    summary="Show a label set",
    response_model=LabelSet,
    responses=openapi.refusals(*openapi.ASKED, 404),
)
async def show_label_set(request: Request, name: str) -> Response:
    """One label set with its labels in order."""
    allow(request, "infer")
    try:
        labels = label_set(name)
    except LabelError:
        raise Problem(
            Kind.NOT_FOUND,
            "label-set-not-found",
            "There is no such label set",
            f"No label set has the name {name[:80]!r}.",
            remedy=f"There are {', '.join(label_sets())}.",
        ) from None

    content = {"id": name, "object": "label_set", "count": len(labels), "labels": labels}
    return Response(orjson.dumps(content), media_type="application/json")
