"""One file a task: its body, what it answers, and its row. ``TASKS`` is all there are."""

from __future__ import annotations

from typing import Any

from gateway.tasks.classify import CLASSIFY
from gateway.tasks.detect import DETECT
from gateway.tasks.embeddings import EMBEDDINGS
from gateway.tasks.ground import GROUND
from gateway.tasks.task import Task

TASKS: tuple[Task[Any, Any, Any], ...] = (
    CLASSIFY,
    DETECT,
    GROUND,
    EMBEDDINGS,
)
"""Routes, fast routes, the document, labels of metrics, deadlines and costs come from here."""
