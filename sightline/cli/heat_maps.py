"""Where ``sightline classify --explain`` writes what the platform drew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sightline.client import ClassifiedImage


@dataclass(slots=True)
class HeatMaps:
    """One PNG for one picture, or a folder for several; ``target`` absent: none are wanted."""

    target: Path | None
    written: int = 0

    @classmethod
    def into(cls, target: Path | None, images: Sequence[str]) -> HeatMaps:
        """Refuses one file for what may be several pictures, before anything is asked."""
        several = len(images) > 1 or Path(images[0]).is_dir()
        if target is not None and several and target.suffix.lower() == ".png":
            raise typer.BadParameter(f"--explain {target} is one file, and there are several pictures: name a folder")
        return cls(target)

    @property
    def wanted(self) -> bool | None:
        return None if self.target is None else True

    def keep(self, name: str, answer: ClassifiedImage) -> None:
        """Write the map of the picture that the user called ``name``."""
        if self.target is None or answer.explanation is None:
            return
        file = self.target
        if file.suffix.lower() != ".png":
            stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).stem)[:80]
            file = file / f"{self.written:04}-{stem}.png"  # numbered: two folders may have pictures of one name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(answer.explanation.png)
        self.written += 1
