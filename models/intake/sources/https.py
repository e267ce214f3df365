"""One file over HTTPS: resumed after a break, bounded in size and time. Its hash is checked by the caller."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx

from models.errors import SourceError
from models.progress import Progress

DEADLINE = 3600.0
"""Seconds for one file, retries included."""
ATTEMPTS = 5
TIMEOUT = httpx.Timeout(30.0, connect=15.0)


def download(
    url: str, part: Path, size: int, progress: Progress, deadline: float = DEADLINE, attempts: int = ATTEMPTS
) -> None:
    """Bring ``url`` to ``part``, going on from whatever ``part`` holds already.

    A broken connection is tried again ``attempts`` times; the part stays for the next call. Raises
    :class:`SourceError` when that does not help, when the file is not ``size`` bytes, or at the deadline.
    """
    end = time.monotonic() + deadline
    reason = ""
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(0.2 * 2**attempt, 5.0))
            try:
                _go_on(client, url, part, size, progress, end)
            except (httpx.TransportError, httpx.RemoteProtocolError) as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            length = part.stat().st_size
            if length == size:
                return
            reason = f"the server ended after {length} of {size} bytes"

    raise SourceError(
        f"{url} could not be fetched: {reason}", "check the network, then pull again: it goes on from there"
    )


def _go_on(client: httpx.Client, url: str, part: Path, size: int, progress: Progress, end: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0

    if have == size:
        return

    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise httpx.TransportError(f"HTTP {response.status_code}")
        if response.status_code == 416 or (response.status_code == 206 and not _continues(response, have)):
            part.unlink(missing_ok=True)
            raise httpx.TransportError("the server cannot go on from here")
        if response.status_code not in (200, 206):
            raise SourceError(f"{url} answered HTTP {response.status_code}", "check the address in sources.lock")
        if response.status_code == 200:
            have = 0
        with part.open("ab" if have else "wb") as out:
            for block in response.iter_raw():
                have += len(block)
                if have > size:
                    out.truncate(0)
                    raise SourceError(f"{url} is longer than the pinned {size} bytes", "check it with its publisher")
                out.write(block)
                progress(f"download {url}", have, size)
                if time.monotonic() > end:
                    raise SourceError(f"{url} was not there at the deadline", "pull again: it goes on from there")
            out.flush()
            os.fsync(out.fileno())


def _continues(response: httpx.Response, have: int) -> bool:
    answered: str = response.headers.get("Content-Range", "")
    return answered.replace(" ", "").startswith(f"bytes{have}-")
