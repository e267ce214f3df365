"""An upload on its way into the store of artifacts: refused before it is read where there is no room for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from gateway.context import context_of
from gateway.request.uploads import FORM_BYTES, Upload, declared_length, receive
from services.storage.drafts import Draft
from services.storage.problems import over_quota, too_large


@asynccontextmanager
async def received(request: Request, key_id: str) -> AsyncIterator[tuple[Draft, Upload]]:
    """The body as a finished draft, removed when the block ends, and what came besides it.

    Raises ``artifact-quota`` and ``artifact-too-large``, and what :func:`~gateway.request.uploads.receive` raises.
    """
    context = context_of(request)
    artifacts, limit = context.jobs.artifacts, context.settings.max_upload_bytes
    room = await asyncio.to_thread(artifacts.room, key_id)
    length = declared_length(request)
    if room is not None and (room == 0 or (length is not None and length - FORM_BYTES > room)):
        raise over_quota(context.settings.artifact_quota_bytes)
    if length is not None and length - FORM_BYTES > limit:
        raise too_large(limit)

    draft = await asyncio.to_thread(artifacts.draft, limit if room is None else min(limit, room))
    try:
        upload = await receive(request, draft.write)
        await asyncio.to_thread(draft.finish)
        yield draft, upload
    finally:
        await asyncio.to_thread(draft.discard)
