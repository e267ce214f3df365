"""The programs of the torch worker: what a card with engine ``torch`` may name, and where the code of it is.

A card brings weights and says which program computes with them; it never brings code. A program is opened by a function
``(folder, card, device) -> Program`` of a module that only the worker imports::

    class Doubling:
        joins = False

        def run(self, inputs, previews):
            value = inputs["x"]
            for _ in range(3):
                value = value * 2
                yield {"y": value} if previews else None
            return {"y": value}

Between two steps the worker looks whether anybody still waits, whether there is time and memory left, and sends the
preview on. A program need not know of any of that; ``finally`` and ``with`` around a ``yield`` are left in order when
it is stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from models.catalog.card import Card

Arrays = Mapping[str, NDArray[Any]]

Steps = Generator[Arrays | None, None, Arrays]
"""Yields after each step, with outputs as they are now or with nothing; returns the outputs."""


class Program(Protocol):
    """Weights in memory, and what is computed with them. ``run`` is called in several threads at once if the worker is
    told to run several requests at once.

    ``joins``: whether rows of different requests may run together, which then finish together. Otherwise the rows of
    one request (the particles of a flow) are one batch, and nobody else's are in it.
    """

    joins: bool

    def run(self, inputs: Arrays, previews: bool) -> Steps:
        """Arrays of the card's inputs to those of its outputs. Without ``previews`` nobody looks at what is yielded.

        Raises ``ValueError`` for values that cannot be computed with.
        """
        ...


class Opening(Protocol):
    """The function that a row of ``PROGRAMS`` names."""

    def __call__(self, folder: Path, card: Card, device: str) -> Program:
        """Read the safetensors files of a version ``folder`` onto ``device`` (``cpu``, ``cuda:0``)."""
        ...


PROGRAMS: dict[str, str] = {}
"""``module:function`` by the name that cards use. A line whose models need gradients or loops adds a row."""
