"""Sends stored content: whole, or the range that was asked for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.request.request_context import HEAD_KEY, RequestContext
from services.storage.artifacts import Artifact, ArtifactStore

_RANGE = re.compile(rb"^bytes=(\d{0,18})-(\d{0,18})$")


def content_response(request: Request, store: ArtifactStore, artifact: Artifact) -> Response:
    """The content of an artifact. One range is served, several are answered with the whole, as the RFC allows.

    Raises 416 for a range beyond the end.
    """
    head = RequestContext.of(request.scope).head
    tag = f'"{artifact.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(artifact.name, safe='')}",
        # Content is whatever somebody uploaded: no browser may take it for a page of this server.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if tag.encode() in head.get(b"if-none-match", b""):
        return Response(status_code=304, headers=headers)

    start, end, status = 0, artifact.size, 200
    if_range = head.get(b"if-range")
    if b"range" in head and (if_range is None or if_range == tag.encode()):
        asked = _asked(head[b"range"], artifact.size)
        if asked is not None:
            start, end = asked
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"

    headers["Content-Length"] = str(end - start)
    if HEAD_KEY in request.scope:
        return Response(status_code=status, headers=headers, media_type=artifact.media_type)

    return StreamingResponse(
        store.read(artifact, start, end), status_code=status, headers=headers, media_type=artifact.media_type
    )


def _asked(header: bytes, size: int) -> tuple[int, int] | None:
    """First and past-the-last byte of the range; ``None`` for what need not be understood."""
    match = _RANGE.match(header.strip())
    if match is None or match[1] == match[2] == b"":
        return None
    if match[1] == b"":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start >= end:
        raise HTTPException(416, f"The content has {size:,} bytes.", {"Content-Range": f"bytes */{size}"})
    return start, end
