"""What a layout is: a way to lay out labelled images, how well an upload fits it, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.datasets.listing import Listing
from services.datasets.samples import Parsed


@dataclass(frozen=True, slots=True)
class Fit:
    """How much of an upload a layout explains, from 0 to 1, and by which marks."""

    score: float
    why: str


class Layout(Protocol):
    """One module of this folder."""

    NAME: str

    def fit(self, listing: Listing) -> Fit | None:
        """``None`` where nothing of the layout is there."""

    def read(self, listing: Listing) -> Parsed:
        """Read it; what is wrong is among the flaws. Raises :class:`Problem` where the layout is known and refused."""


def share(found: int, of: int) -> float:
    return found / of if of else 0.0
