"""``/docs`` and ``/openapi.json``: the API explained by the server itself, without anything from another host."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import openapi

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def describe(request: Request) -> Response:
    """The OpenAPI document, made once."""
    app = request.app
    if not hasattr(app.state, "openapi"):
        # A tenth of a second's work: in a thread, and one for all who ask meanwhile.
        app.state.openapi = asyncio.create_task(asyncio.to_thread(lambda: orjson.dumps(openapi.document(app))))
    return Response(await asyncio.shield(app.state.openapi), media_type="application/json")


@router.get("/docs")
async def page(request: Request) -> Response:
    """A page that reads ``/openapi.json``, shows it and sends requests."""
    text, policy = _page()
    return Response(text, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


@cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets exactly its own script and style run."""
    text = (files("gateway") / "pages" / "docs.html").read_text("utf-8")
    sources = {}
    for tag in ("script", "style"):
        match = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert match is not None
        digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
        sources[tag] = f"{tag}-src 'sha256-{digest}'"
    policy = "; ".join(["default-src 'none'", *sources.values(), "connect-src 'self'", "frame-ancestors 'none'"])
    return text.encode(), policy
