"""Names of entries: what may become a path below a folder, and which are one and the same there."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

from services.datasets.archive.limits import refusal

IGNORED = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


class Names:
    """What was unpacked, as a file system that ignores case would see it."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in self._files:
            raise refusal("archive-duplicate-name", f"{name!r} and {self._files[folded]!r} are the same name.")
        if folded in self._folders:
            raise refusal("archive-duplicate-name", f"{name!r} is a file and a folder.")
        self._files[folded] = name
        folder = folded.rpartition("/")[0]
        while folder and folder not in self._folders:
            if folder in self._files:
                raise refusal("archive-duplicate-name", f"{self._files[folder]!r} is a file and a folder.")
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]


def safe_name(name: str) -> str | None:
    """The entry's path with ``/``, ``None`` for litter; raises for a path that would leave the folder."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise refusal("archive-path", f"The name {ascii(name)[:100]} is not UTF-8.") from None

    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or not parts or any(":" in part or "\0" in part for part in parts[:1]):
        raise refusal("archive-path", f"{name!r} points outside of the archive.")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise refusal("archive-path", f"{name!r} holds a control character.")

    clean = "/".join(parts)
    if len(clean.encode()) > 1024 or any(len(part.encode()) > 255 for part in parts):
        raise refusal("archive-path", f"The name {clean[:60]!r}... is too long.")
    if clean.startswith(IGNORED[0]) or parts[-1] in IGNORED[1:] or parts[-1].startswith("._"):
        return None

    return clean
