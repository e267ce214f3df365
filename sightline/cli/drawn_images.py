"""Where ``sightline detect -o`` and ``sightline ground -o`` write the images with their boxes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(slots=True)
class DrawnImages:
    """One file for one picture, or a folder for several; ``target`` absent: none are wanted."""

    target: Path | None
    written: int = 0

    @classmethod
    def into(cls, target: Path | None, images: Sequence[str]) -> DrawnImages:
        """Refuses one file for what may be several pictures, before anything is asked."""
        several = len(images) > 1 or Path(images[0]).is_dir()
        if target is not None and several and target.suffix.lower() in _SUFFIXES:
            raise typer.BadParameter(f"-o {target} is one file, and there are several pictures: name a folder")
        return cls(target)

    @property
    def wanted(self) -> bool | None:
        return None if self.target is None else True

    def keep(self, name: str, drawn: bytes | None) -> Path | None:
        """Write the copy of the picture that the user called ``name``; return where."""
        if self.target is None or drawn is None:
            return None
        suffix = ".jpg" if drawn.startswith(b"\xff\xd8") else ".png"
        file = self.target
        if file.suffix.lower() not in _SUFFIXES:
            stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).stem)[:80]
            file = file / f"{self.written:04}-{stem}{suffix}"  # numbered: two folders may have pictures of one name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower().replace("jpeg", "jpg") == suffix:
            file.write_bytes(drawn)
        else:
            from PIL import Image

            Image.open(io.BytesIO(drawn)).convert("RGB").save(file)
        self.written += 1
        return file
