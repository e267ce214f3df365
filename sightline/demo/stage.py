"""What the steps of the demo work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Wrong(Exception):
    """An answer that is not the right one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running platform at ``url``, the folder of photos, and a console to show answers on."""

    url: str
    http: httpx.Client
    photos: Path
    console: Console

    def photo(self, name: str) -> Path:
        """A photo of scikit-image's collection."""
        return self.photos / name

    def say(self, line: str | Text) -> None:
        """One line of an answer."""
        self.console.print("   ", line)

    def show_scores(self, scores: Sequence[tuple[str, float]]) -> None:
        """Labels with bars, best first."""
        from rich.text import Text

        width = max(len(label) for label, _ in scores)
        for label, score in scores:
            self.say(Text.assemble(f"{label:<{width}} {score:6.1%} ", ("█" * round(24 * score), "green")))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the platform does: ``run`` asks, shows, and raises :class:`Wrong`."""

    title: str
    run: Callable[[Stage], None]


def ok(response: httpx.Response, status: int = 200) -> httpx.Response:
    """The answer, if it has the status that it should have."""
    if response.status_code != status:
        request = f"{response.request.method} {response.url.path}"
        said = (
            response.json()["detail"] if "problem+json" in response.headers.get("content-type", "") else response.text
        )
        raise Wrong(f"{request} answered {response.status_code}: {said[:500]}")
    return response


def check(right: bool, otherwise: str) -> None:
    """Raise :class:`Wrong` unless ``right``."""
    if not right:
        raise Wrong(otherwise)
