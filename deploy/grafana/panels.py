"""What a dashboard is made of, as data; ``build.py`` turns it into Grafana's own form.

``$rate`` in an expression stands for Grafana's interval for rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lines", "stacked", "number", "heat"]
Unit = Literal["reqps", "ops", "s", "percentunit", "bytes", "short", "watt", "binBps", "bool"]

WIDTH, HEIGHT = 24, 8
"""A dashboard's columns, and how many rows of its grid a panel takes."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Expressions by what the legend says of them, ``{{label}}`` being a label's value."""

    title: str
    queries: dict[str, str]
    unit: Unit = "short"
    about: str = ""
    kind: Kind = "lines"
    width: int = 8
    warn: float | None = None
    """Red from here on."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. ``choose`` offers the values of a label: its name, and the metric that has it."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    choose: tuple[str, str] | None = None

    @property
    def uid(self) -> str:
        return f"sightline-{self.name}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def number(
    title: str, query: str, unit: Unit = "short", *, about: str = "", warn: float | None = None, width: int = 4
) -> Panel:
    """One value, large."""
    return Panel(title, {"": query}, unit, about, "number", width, warn)
