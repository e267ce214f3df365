"""Requests that look into the repository or change what is served: a JSON object that may be left out."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request

from gateway.request.parsing import parse_json, read_body
from services.errors import Kind, Problem
from services.runtime.version_policy import VersionPolicy


async def read_document(request: Request) -> dict[str, Any]:
    """The JSON object of a request whose body may be left out."""
    sent = await read_body(request.receive)
    document = parse_json(sent) if sent else {}
    if not isinstance(document, dict):
        raise _invalid("The body is no JSON object.")
    return document


def parameters_of(document: dict[str, Any]) -> dict[str, Any]:
    """Its ``parameters``; empty when there are none."""
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _invalid("`parameters` is no object.")
    return parameters


def policy_of(parameters: dict[str, Any]) -> VersionPolicy | None:
    """The version policy of a load request; ``None`` when it says nothing.

    Nothing else is taken: a configuration or files in the request would change what a model is.
    """
    unknown = [name for name in parameters if name != "config"]
    if unknown:
        raise _invalid(f"`parameters.{unknown[0][:80]}` is not supported; models come from the repository only.")

    config = parameters.get("config")
    if config is None:
        return None

    try:
        document = orjson.loads(config) if isinstance(config, str) else config
        if not isinstance(document, dict) or set(document) != {"version_policy"}:
            raise ValueError("it may hold `version_policy` and nothing else")
        return VersionPolicy.parse(document["version_policy"])
    except ValueError as error:
        raise _invalid(f"`parameters.config`: {error}.") from None


def _invalid(detail: str) -> Problem:
    return Problem(Kind.INVALID, "request-invalid", "The request is wrong", detail)
