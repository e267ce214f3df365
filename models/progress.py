"""How long work tells what it is doing; who draws the bar is the caller's business."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, how much is done and the total (0: unknown), in bytes or steps."""


def silent(stage: str, done: int, total: int) -> None:
    """Progress for who does not want any."""
