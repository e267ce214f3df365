"""Files of published data sets: used where a person put them, fetched where they can be, else named in one message.

A fetch goes on where the last one broke off. A published hash is checked; where the publisher names none, the hash that
was seen first is kept beside the file, and another file under the same name is refused later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx

from services.errors import Kind, Problem

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
ATTEMPTS = 3
SEEN = ".sha256"

Follow = Callable[[str, int, int | None], None]
"""Called with file name, bytes so far and bytes in all where known; may raise to stop."""


def bring(
    folder: Path, base: str, names: Sequence[str], hashes: Mapping[str, str], token: str | None, follow: Follow
) -> list[Path]:
    """``names`` as files of ``folder``, from ``base``. Raises ``suite-data-missing`` or ``suite-data-damaged``."""
    found = []
    for name in names:
        target = folder / name
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            address = f"{base.rstrip('/')}/{quote(name)}"
            try:
                _fetch(address, token, target, follow)
            except (httpx.HTTPError, OSError) as error:
                missing = [other for other in names if not (folder / other).is_file()]
                raise _missing(folder, base, missing, error) from error
        _check(target, hashes.get(name))
        found.append(target)

    return found


def _fetch(address: str, token: str | None, target: Path, follow: Follow) -> None:
    part = target.with_name(target.name + ".part")
    link = f"{address}?{token.lstrip('?')}" if token else address
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"accept-encoding": "identity"}) as client:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _go_on(client, link, part, follow)
                break
            except httpx.TransportError:
                if attempt == ATTEMPTS or not part.exists():
                    raise
    part.replace(target)


def _go_on(client: httpx.Client, link: str, part: Path, follow: Follow) -> None:
    have = part.stat().st_size if part.exists() else 0
    with client.stream("GET", link, headers={"range": f"bytes={have}-"} if have else {}) as response:
        if response.status_code == 416:
            part.unlink()
            raise httpx.ReadError("the server cannot go on from here")

        if not response.is_success:
            # Without the link: it may carry a token.
            raise httpx.HTTPError(f"the server answered {response.status_code}")

        if response.status_code != 206:
            have = 0

        length = response.headers.get("content-length")
        total = have + int(length) if length and length.isdigit() else None
        with part.open("ab" if have else "wb") as out:
            for block in response.iter_raw():
                out.write(block)
                have += len(block)
                follow(part.name.removesuffix(".part"), have, total)

        if total is not None and have != total:
            raise httpx.ReadError(f"the server ended after {have} of {total} bytes")


def _check(file: Path, expected: str | None) -> None:
    """Against the published hash, or the one that was seen first."""
    seen = file.with_name(file.name + SEEN)
    stamp = f"{file.stat().st_size} {file.stat().st_mtime_ns}"
    kept = seen.read_text("utf-8").split("\n") if seen.is_file() else []
    if len(kept) >= 2 and kept[1] == stamp and kept[0] == (expected or kept[0]):
        return

    with file.open("rb") as source:
        actual = hashlib.file_digest(source, "sha256").hexdigest()

    wanted = expected or (kept[0] if kept else None)
    if wanted is not None and actual != wanted:
        raise Problem(
            Kind.INVALID,
            "suite-data-damaged",
            "A file of the data set is not what it should be",
            f"{file} has sha256 {actual}, expected {wanted}.",
            remedy=f"Remove it (and {seen.name} if you trust the new file), then fetch it again.",
        )

    seen.write_text(f"{actual}\n{stamp}", "utf-8")


def _missing(folder: Path, base: str, names: Sequence[str], error: Exception) -> Problem:
    listed = ", ".join(f"{base.rstrip('/')}/{name}" for name in names)
    reason = str(error) if type(error) is httpx.HTTPError else type(error).__name__
    return Problem(
        Kind.INVALID,
        "suite-data-missing",
        "The data set is not on this machine and cannot be fetched",
        f"{names[0]} could not be had: {reason}.",
        remedy=f"Download {listed} on a machine that can, and put each under its own name into {folder}. "
        "Where the publisher asks for a token, set SIGHTLINE_SUITE_TOKEN.",
    )
