"""Sightline for people: the Python client, the ``sightline`` command and the local launcher."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.client import (
        APIError,
        AsyncClient,
        Classification,
        ClassifiedImage,
        Client,
        Comparison,
        Embeddings,
        Explanation,
        Job,
        JobFailed,
        JobTimeout,
        Leaderboard,
        Model,
        Prediction,
        SightlineError,
        Unreachable,
    )

__all__ = [
    "APIError",
    "AsyncClient",
    "Classification",
    "ClassifiedImage",
    "Client",
    "Comparison",
    "Embeddings",
    "Explanation",
    "Job",
    "JobFailed",
    "JobTimeout",
    "Leaderboard",
    "Model",
    "Prediction",
    "SightlineError",
    "Unreachable",
]


def __getattr__(name: str) -> object:
    # The command line imports this package for `--help` too: the client comes when somebody asks for it.
    if name in __all__:
        return getattr(import_module("sightline.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
