"""The files of an unpacked upload as layouts look at them: by kind, by what a reference means, as text, as JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from models.text_files import UnreadableText, decode_text
from services.datasets.archive import Watch
from services.datasets.samples import Split, folder_split
from services.media.suffixes import IMAGE_SUFFIXES, OTHER_IMAGES

MAX_TEXT_BYTES = 64 << 20
"""Of one list, table or annotation file: as objects they take some twenty times as much."""

_TAIL, _ALIKE = 3, 100
"""Parts of a path that tell files of one name apart; more files that end alike are not told apart one by one."""


class Unreadable(Exception):
    """A file cannot be read as what it should be; the text says why."""


def folded(path: str) -> str:
    """A path as a file system that ignores case and Unicode forms would compare it."""
    return unicodedata.normalize("NFC", path).casefold()


class Listing:
    """``names`` are paths below ``root`` with ``/``; all of them exist, and no two are the same but for case."""

    def __init__(self, root: Path, names: Iterable[str], watch: Watch = lambda: None) -> None:
        self.root = root
        self.names = sorted(names)
        self._watch = watch
        self._json_left = MAX_TEXT_BYTES
        self._json: dict[str, Any] = {}

    @cached_property
    def images(self) -> list[str]:
        """Files that can be decoded, by their suffix."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]

    @cached_property
    def other_images(self) -> dict[str, str]:
        """Pictures that cannot be decoded here, and the name of their format."""
        suffixes = ((name, PurePosixPath(name).suffix.lower()) for name in self.names)
        return {name: OTHER_IMAGES[suffix] for name, suffix in suffixes if suffix in OTHER_IMAGES}

    @cached_property
    def pictures(self) -> list[str]:
        """All of them, decodable or not: a class whose pictures are all of the other kind must not vanish unseen."""
        return sorted([*self.images, *self.other_images])

    def suffixed(self, *suffixes: str) -> list[str]:
        """Files with one of ``suffixes`` (lower case, with the dot), in any case."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in suffixes]

    def called(self, *base_names: str) -> list[str]:
        """Files called one of ``base_names`` (lower case), in any case, those of the outermost folders first."""
        found = [name for name in self.names if PurePosixPath(name).name.lower() in base_names]
        return sorted(found, key=lambda name: (name.count("/"), name))

    def text(self, name: str, most: int = MAX_TEXT_BYTES) -> str:
        """A text file, whole. Raises :class:`Unreadable` beyond ``most`` bytes and where it is in no known encoding."""
        self._watch()
        path = self.root / name
        if path.stat().st_size > most:
            raise Unreadable(f"larger than {most >> 20} MiB; split it")
        try:
            return decode_text(path.read_bytes())
        except UnreadableText as error:
            raise Unreadable(str(error)) from None

    def json(self, name: str) -> Any:
        """A JSON file; parsed once. Raises :class:`Unreadable`; all files together are bounded too."""
        if name in self._json:
            return self._json[name]
        size = (self.root / name).stat().st_size
        if size > self._json_left:
            raise Unreadable(f"the json files are larger than {MAX_TEXT_BYTES >> 20} MiB together")
        try:
            document = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"not JSON: {error}") from None
        self._json_left -= size
        self._json[name] = document
        return document

    def find(self, reference: str, *, beside: str = "", split: Split | None = None) -> str | None:
        """The file that ``reference``, as written in file ``beside``, means; ``None`` where that is unclear.

        Backslashes, percent signs (``my%20img.jpg``), ``file://``, absolute paths of another machine, bare names,
        another Unicode form and another case are understood. Where several files end as the reference does, the one
        of the same split stands, or the one that lies nearest.
        """
        self._watch()
        for wanted in _spellings(reference):
            found = self._exact(wanted, PurePosixPath(beside).parent) or self._by_ending(wanted, beside, split)
            if found is not None:
                return found
        return None

    def _exact(self, wanted: str, folder: PurePosixPath) -> str | None:
        for candidate in (folder / wanted, PurePosixPath(wanted), folder / "images" / wanted):
            found = self._by_path.get(folded(_plain(str(candidate))))
            if found is not None:
                return found
        return None

    def _by_ending(self, wanted: str, beside: str, split: Split | None) -> str | None:
        parts = [part for part in folded(wanted).split("/") if part not in ("", ".", "..")]
        same: list[str] = []
        for length in range(min(len(parts), _TAIL), 0, -1):
            same = self._by_tail.get("/".join(parts[-length:]), [])
            if same:
                break

        if not same or len(same) > _ALIKE:
            return None
        if len(same) > 1 and split is not None:
            same = [name for name in same if folder_split(name) == split] or same
        if len(same) > 1:
            near = {name: _common(name.split("/"), beside.split("/")) for name in same}
            same = [name for name in same if near[name] == max(near.values())]
        return same[0] if len(same) == 1 else None

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Pictures by their path without its suffix, as :func:`folded` has it."""
        found: dict[str, list[str]] = {}
        for name in self.pictures:
            found.setdefault(folded(str(PurePosixPath(name).with_suffix(""))), []).append(name)
        return found

    def with_stem(self, path: str) -> list[str]:
        """Pictures at ``path``, which has no suffix."""
        return self.by_stem.get(folded(_plain(path)), [])

    @cached_property
    def _by_path(self) -> dict[str, str]:
        return {folded(name): name for name in self.names}

    @cached_property
    def _by_tail(self) -> dict[str, list[str]]:
        """Pictures by the last one, two and three parts of their path."""
        found: dict[str, list[str]] = {}
        for name in self.pictures:
            parts = folded(name).split("/")
            for length in range(1, min(len(parts), _TAIL) + 1):
                found.setdefault("/".join(parts[-length:]), []).append(name)
        return found


def _spellings(reference: str) -> list[str]:
    """A reference as it may be meant, the plainest reading first."""
    plain = reference.strip().removeprefix("file://")
    found = [plain, plain.replace("\\", "/")]
    found += [unquote(spelling) for spelling in found if "%" in spelling]
    query = found[-1].partition("?")[2]  # Label Studio: /data/local-files/?d=folder/image.jpg
    if query.startswith("d="):
        found.append(unquote(query[2:]))
    return list(dict.fromkeys(spelling for spelling in found if spelling))


def _plain(path: str) -> str:
    """``a/./b/../c`` as ``a/c``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _common(left: Iterable[str], right: Iterable[str]) -> int:
    """Return how many first parts are equal."""
    count = 0
    for own, other in zip(left, right, strict=False):
        if own != other:
            break
        count += 1
    return count
