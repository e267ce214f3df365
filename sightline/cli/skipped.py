"""What a command passed over in a folder, by reason, with counts and three examples: nothing goes unsaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sightline.cli.output import console

_SHOWN = 3
_OF_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass(slots=True)
class _Group:
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Skipped:
    """Files that were not taken, in groups."""

    groups: dict[str, _Group] = field(default_factory=dict)

    def add(self, path: Path, reason: str) -> None:
        group = self.groups.setdefault(reason, _Group())
        group.count += 1
        if len(group.examples) < _SHOWN:
            group.examples.append(str(path))

    def lines(self) -> list[str]:
        """A line a reason, the most frequent first."""
        groups = sorted(self.groups.items(), key=lambda one: -one[1].count)
        return [f"{group.count:,} skipped: {reason}, as {', '.join(group.examples)}" for reason, group in groups]

    def tell(self) -> None:
        """Print the lines on standard error, where they are in no program's way."""
        for line in self.lines():
            console(errors=True).print(line, soft_wrap=True)


def why_skipped(path: Path) -> str | None:
    """Why a path of a folder is not a picture to send, by what its name says; ``None`` for a picture or a folder."""
    from services.media.suffixes import IMAGE_SUFFIXES, OTHER_IMAGES

    suffix = path.suffix.lower()
    if path.is_dir():
        return "links to folders are not followed" if path.is_symlink() else None
    if path.name.lower() in _OF_SYSTEMS or path.name.startswith("._") or "__MACOSX" in path.parts:
        return "files of an operating system"
    if suffix in OTHER_IMAGES:
        return f"{OTHER_IMAGES[suffix]} is not decoded; convert it to JPEG or PNG"
    if suffix not in IMAGE_SUFFIXES:
        return "no picture by its name"
    return None if path.is_file() else "links that lead nowhere"
