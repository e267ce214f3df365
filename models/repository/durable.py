"""Files and folders that are still there after a power cut."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from models.repository.hashing import blocks


def store(content: Path | bytes, target: Path) -> str:
    """Copy ``content`` to ``target``, which must not exist, and give its sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as out:
        for block in [content] if isinstance(content, bytes) else blocks(content):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def sync_tree(folder: Path) -> None:
    """Make the names in ``folder`` and below durable."""
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
