"""What the OpenAPI document says of the protocol's requests and refusals."""

from __future__ import annotations

from typing import Any

from gateway.oip import schemas

_SAID: dict[int, str] = {
    400: "The request is wrong",
    401: "The key is missing or not valid",
    403: "The key lacks the scope, or the Host or Origin is not served",
    404: "No such model or version",
    408: "The body did not arrive in time",
    413: "Too large",
    429: "The queue is full; Retry-After says when to come again",
    503: "Not ready",
    504: "The deadline passed",
}

Responses = dict[int | str, dict[str, Any]]


def refusals(*codes: int) -> Responses:
    """FastAPI's ``responses`` for these statuses, each in the protocol's form."""
    return {code: {"model": schemas.OipError, "description": _SAID[code]} for code in codes}


ASKED = refusals(401, 403, 429)
ABOUT_MODEL = ASKED | refusals(404, 503, 504)
CHANGE = ABOUT_MODEL | refusals(400, 408, 413)
INDEX = ASKED | refusals(400, 408, 413, 503)
SERVER_READY: Responses = {503: {"model": schemas.ServerReady, "description": "Starting, or draining"}}
MODEL_READY: Responses = {
    **ASKED,
    **refusals(504),
    400: {"model": schemas.ModelReady, "description": "Not loaded"},
    404: {"model": schemas.ModelReady, "description": "No such model or version"},
}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": schemas.INFER_BODY},
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "JSON as above, then the tensors' bytes; Inference-Header-Content-Length says where",
            },
        },
    }
}


def _optional_body(properties: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema, "example": example}}}}


CHANGE_BODY = _optional_body({"parameters": {"type": "object"}}, {"parameters": {"unload_dependents": False}})
INDEX_BODY = _optional_body({"ready": {"type": "boolean"}}, {"ready": True})
