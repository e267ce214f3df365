"""The queues that jobs wait in: each has workers of its own, so that a long training holds up no batch."""

from __future__ import annotations

from typing import Literal

Queue = Literal["batch", "finetune", "benchmark", "default"]
QUEUES: tuple[Queue, ...] = ("batch", "finetune", "benchmark", "default")
