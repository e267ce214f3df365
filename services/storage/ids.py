"""Names of stored things: a prefix that says what it is, then 26 characters that sort by the time of making."""

from __future__ import annotations

import re
import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as in the ULID specification
_FORM = re.compile(r"^[a-z]{2,8}_[0-9A-HJKMNP-TV-Z]{26}$")


def new_id(prefix: str) -> str:
    """``job_01J...``: 48 bits of Unix milliseconds, then 80 random bits; later ids sort after earlier ones."""
    number = (int(time.time() * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str, prefix: str) -> bool:
    """Return whether ``text`` has the form of an id of that kind; whether the thing exists is another question."""
    return text.startswith(f"{prefix}_") and _FORM.match(text) is not None
