"""Clip art with titles: file names of Debian's ``openclipart-png`` and of icon sets, made readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SKIPPED = (
    "computer/icons", "computer/buttons", "geography", "recreation/games/cards", "shapes", "signs_and_symbols",
    "special", "unsorted", "transportation/roadsigns", "logos", "buttons", "office/forms",
)  # fmt: skip
"""Folders whose titles do not describe the picture."""

AUTHOR = re.compile(r"(_[a-z.]+){1,3}_(\d+|[a-z])\w?$")
"""The draughtsman's name, of one to three words, and a number at the end of most file names. Where the name is shorter
it takes words of the title with it; a title is a word too short rather than a person's name too long."""


def titled_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every picture whose file name says something, with its title: words, then the name of its folder."""
    for path in sorted(folder.rglob("*.png")):
        place = path.relative_to(folder).as_posix()
        if not place.startswith(SKIPPED) and (title := file_title(path.stem, path.parent.name)):
            yield path, title


def file_title(stem: str, folder: str) -> str:
    """``lightbulb_karl_bartel_01`` in ``bulb`` to ``lightbulb, bulb``; empty when no word is left."""
    words = [word for word in re.split(r"[\W\d_]+", AUTHOR.sub("", stem)) if len(word) > 2]
    return f"{' '.join(words[:4])}, {folder.replace('_', ' ')}".lower() if words else ""


def icon_title(name: str) -> str:
    """``ancient-sword`` to ``ancient sword``."""
    return " ".join(re.split(r"[\W_]+", name)).strip().lower()
