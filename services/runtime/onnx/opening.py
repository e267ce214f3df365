"""Opens a version of a model to serve it, with as many threads as it is worth.

More threads shorten a large network's run and only burn processor time on a small one. Measured on two cores, one row,
one thread against two (ONNX Runtime 1.32, spinning off; milliseconds of wall clock and of processor):
``tiny`` (9 MMAC) 0.17 / 0.18 against 0.25 / 0.37, 64 channels at 112 px 3.4 / 3.4 against 3.4 / 6.7 beside other work,
MobileNet-v1 12.9 / 13.6 against 9.6 / 16.3. So one thread comes first, and more only where they win.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import Executor
from pathlib import Path

from models.catalog.card import Card
from services.runtime.onnx.cores import threads_for
from services.runtime.onnx.embedded import Embedded
from services.runtime.onnx.session import open_session
from services.runtime.served import Observer
from services.settings import Settings

SMALL_SECONDS = 0.002
"""A row that takes less than this alone is not worth a second thread."""

GAIN = 0.75
"""More threads have to bring a row's time down to this part of what one thread takes."""

LARGE_BYTES = 100_000_000
"""A file larger than this is not opened twice to find out: its network is large, too."""

_log = logging.getLogger("sightline.runtime")


def open_served(folder: Path, card: Card, settings: Settings, executor: Executor, observer: Observer) -> Embedded:
    """A version that is loaded, warm and measured. Blocks. Raises ``model-invalid`` and what a first run raises."""
    threads = threads_for(card.engine.intra_op_threads, settings.workers)

    def warm(count: int) -> Embedded:
        served = Embedded(folder, card, open_session(folder, card, settings, count), executor, observer)
        served.warm_up()
        return served

    if threads == 1 or card.engine.intra_op_threads or _size(folder) > LARGE_BYTES:
        served = warm(threads)
    else:
        served = warm(1)
        if served.row_seconds > SMALL_SECONDS:
            alone = served.row_seconds
            together = warm(threads)
            _log.info(
                "%s/%s: a row takes %.1f ms with one thread, %.1f with %d",
                card.name,
                card.version,
                alone * 1e3,
                together.row_seconds * 1e3,
                threads,
            )
            if together.row_seconds < GAIN * alone or math.isinf(alone):
                served, together = together, served
            together.release()
    served.prepare()
    return served


def _size(folder: Path) -> int:
    """Bytes of the model and of weights beside it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
