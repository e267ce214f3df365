"""Names of stored things: a prefix that says what it is, then 26 characters that sort by the time of making."""

from __future__ import annotations

import re
import secrets
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as in the ULID specification
_FORM = re.compile(r"^[a-z]{2,8}_[0-9A-HJKMNP-TV-Z]{26}$")

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """``job_01J...``: 48 bits of Unix milliseconds, then 80 random bits; later ids sort after earlier ones.

    Within one process that holds for ids of the same millisecond too, and when the clock is set back: what is handed in
    at once is listed, and told to a broker, in the order in which it came.
    """
    global _last
    with _lock:
        drawn = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
        # Not the next number: an id must not tell the one after it.
        _last = drawn if drawn > _last else _last + 1 + secrets.randbits(64)
        number = _last
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str, prefix: str) -> bool:
    """Return whether ``text`` has the form of an id of that kind; whether the thing exists is another question."""
    return text.startswith(f"{prefix}_") and _FORM.match(text) is not None
