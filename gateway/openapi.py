"""The OpenAPI document: FastAPI's, with problem bodies, request bodies that it does not parse, and keys said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.problems import MEDIA_TYPE
from gateway.request.body import ProblemBody

METADATA: dict[str, Any] = {
    "title": "Sightline",
    "version": "1",
    "summary": "Serve, adapt and measure language-augmented vision models",
    "description": "Tasks under `/v1`, the Open Inference Protocol under `/v2`. Refusals are RFC 9457 problems.",
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}

_SAID: dict[int, str] = {
    400: "The request cannot be parsed",
    401: "The key is missing or not valid",
    403: "The key lacks the scope, or the Host or Origin is not served",
    404: "No such thing, or not yours",
    408: "The body did not arrive in time",
    409: "Contradicts the present state",
    413: "Too large",
    416: "The range lies beyond the end",
    415: "The content type or encoding is not supported",
    422: "Understood, but wrong; `pointer` says where",
    431: "The address and the headers are too long together",
    429: "Too much at once; Retry-After says when to come again",
    503: "Not ready; Retry-After says when to come again",
    504: "The deadline passed",
}

ASKED = (401, 403, 429)
"""What any route that needs a key may answer."""
WITH_BODY = (400, 408, 413, 415, 422, 503)
"""What any route that reads a body may answer besides."""
WITH_QUERY = (431,)
"""What a route with query parameters of any length may answer besides."""


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` for these statuses, each a problem."""
    return {code: {"model": ProblemBody, "description": _SAID[code]} for code in sorted(codes)}


def body(model: type[BaseModel], examples: dict[str, Any], others: dict[str, Any] | None = None) -> dict[str, Any]:
    """FastAPI's ``openapi_extra`` for a body that the route reads itself; ``others`` by media type."""
    json = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": json, **(others or {})}}}


def files(model: type[BaseModel]) -> dict[str, Any]:
    """Media types besides JSON in which images come: a form with file parts, and the image itself."""
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "array", "items": binary, "minItems": 1, "description": "File parts, one an image"},
            "request": {
                "type": "object",
                "description": f"One part of JSON: the other fields of {model.__name__}",
            },
        },
    }
    encoding = {"request": {"contentType": "application/json"}}
    kinds = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/avif")

    return {
        "multipart/form-data": {"schema": form, "encoding": encoding},
        **{kind: {"schema": binary} for kind in kinds},
    }


def query_fields(model: type[BaseModel], names: Iterable[str]) -> list[dict[str, Any]]:
    """Fields of a body as query parameters, for requests whose body is the image itself."""
    properties = model.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    parameters = []
    for name in names:
        schema = properties[name]
        description = schema.get("description", "")
        plain = next(one for one in schema.get("anyOf", [schema]) if one.get("type") != "null")
        parameters.append(
            {
                "name": name,
                "in": "query",
                "description": f"Only where the body is the image itself. {description}",
                "schema": plain,
                "style": "form",
                "explode": False,
            }
        )

    return parameters


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document; ``app.state.bodies`` are those that routes read themselves: FastAPI knows nothing of them."""
    whole = app.openapi()
    components = whole.setdefault("components", {})
    _, extra = models_json_schema(
        [(model, "validation") for model in app.state.bodies], ref_template="#/components/schemas/{model}"
    )
    components.setdefault("schemas", {}).update(extra.get("$defs", {}))
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
    }
    whole["security"] = [{}, {"bearer": []}, {"header": []}]
    for generated in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(generated, None)

    problem = {"$ref": "#/components/schemas/ProblemBody"}
    for path, operation in _operations(whole):
        responses = operation["responses"]
        if path.startswith("/v2") and _is_fastapis(responses.get("422", {})):
            del responses["422"]  # names in the path are texts of any form: nothing there is refused by FastAPI
        for status, response in responses.items():
            content = response.get("content", {})
            if _is_fastapis(response):
                response |= {"description": _SAID[422], "content": {"application/json": {"schema": problem}}}
                content = response["content"]
            if path.startswith("/v2") or not status.startswith(("4", "5")) or "application/json" not in content:
                continue
            response["content"] = {MEDIA_TYPE: content["application/json"]}
            if status in ("429", "503"):
                response["headers"] = {
                    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
                }

    return whole


def _is_fastapis(response: dict[str, Any]) -> bool:
    """Return whether a response is the one that FastAPI documents by itself, in a form that is never sent."""
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).endswith("/HTTPValidationError")


def _operations(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in whole["paths"].items():
        for operation in item.values():
            yield path, operation
