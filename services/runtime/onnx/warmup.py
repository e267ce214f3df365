"""Runs a freshly loaded model before it serves: first runs are slow, and the batch size that pays is measured.

On a GPU larger batches are faster to the row. On a CPU a convolutional network often is not: measured with three
convolutions at 224 px on one thread, a row takes 189 us alone, 181 us in a batch of 4, 222 us of 8 and 296 us of 16,
where the activations no longer fit the cache. So the largest batch is not the card's limit but the smallest size
that costs a row at most 3 % more than the best one measured, overhead of a batch included.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from models.catalog.card import Card, TensorSpec
from services.errors import Problem
from services.runtime.protocol import Tensor
from services.runtime.tensors import DTYPES, Signature, elements, shapes_of

BUDGET_SECONDS = 0.3
"""Measuring stops here, after the first two sizes."""

BATCH_OVERHEAD = 20e-6
"""Seconds that joining, running and handing out one more batch costs on the event loop (measured)."""

TOLERANCE = 1.03

Run = Callable[[Mapping[str, Tensor]], float]
"""Runs one batch and gives back its seconds; raises :class:`services.errors.Problem`."""

_log = logging.getLogger("sightline.runtime")


def row_seconds(card: Card, run: Run) -> float:
    """What one row takes alone, once the model is warm; infinite for a model whose free dimensions cannot be guessed.

    Raises the problem of a model that fails although its shape is fixed.
    """
    try:
        run(example(card, 1))
    except Problem as problem:
        if all(-1 not in spec.shape[1:] for spec in card.inputs):
            raise
        _log.info("%s/%s was not warmed up: %s", card.name, card.version, problem)
        return math.inf
    return min(run(example(card, 1)) for _ in range(3))


def batch_rows(card: Card, run: Run, alone: float, observe: Callable[[int, int, float], None]) -> int:
    """The rows that a batch should have at most. ``alone`` is what :func:`row_seconds` found.

    ``observe`` learns the cost, rows and seconds of each size that is measured.
    """
    most = card.batching.max_batch_size if Signature(card).batched else 1
    if math.isinf(alone):
        return most

    each = elements(shapes_of(example(card, 1)))
    observe(each, 1, alone)
    per_row = {1: alone + BATCH_OVERHEAD}
    rows, began = 1, time.perf_counter()
    while rows < most and (rows == 1 or time.perf_counter() - began < BUDGET_SECONDS):
        rows = min(rows * 2, most)
        inputs = example(card, rows)
        seconds = min(run(inputs) for _ in range(3 if time.perf_counter() - began < BUDGET_SECONDS / 2 else 1))
        observe(rows * each, rows, seconds)
        per_row[rows] = (seconds + BATCH_OVERHEAD) / rows

    # Whoever waits for batches wants them.
    chosen = most if card.batching.max_delay_us else choose(per_row, most)
    _log.info("%s/%s: %.2f ms a row alone, batches of up to %d", card.name, card.version, alone * 1e3, chosen)
    return chosen


def choose(seconds_per_row: Mapping[int, float], most: int) -> int:
    """The batch size from what was measured. Sizes beyond the measured ones are trusted if it was still paying."""
    sizes = sorted(seconds_per_row)
    quickest = min(seconds_per_row.values())
    if sizes[-1] < most and len(sizes) > 1 and seconds_per_row[sizes[-1]] * TOLERANCE < seconds_per_row[sizes[-2]]:
        return most
    return next(size for size in sizes if seconds_per_row[size] <= quickest * TOLERANCE)


def example(card: Card, rows: int) -> dict[str, Tensor]:
    """Inputs of ``rows`` rows that the model can run: zeros, ones where they are a mask."""
    return {spec.name: _example(card, spec, rows) for spec in card.inputs}


def _example(card: Card, spec: TensorSpec, rows: int) -> Tensor:
    free = 1
    if card.image is not None and spec.name == card.image.input:
        free = card.image.side
    elif card.text is not None:
        free = card.text.max_length if card.text.padding == "max" else min(16, card.text.max_length)
    shape = tuple((rows if axis == 0 else free) if size == -1 else size for axis, size in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        return np.full(shape, b"", object)
    is_mask = card.text is not None and spec.name == card.text.mask_input
    return np.full(shape, 1 if is_mask else 0, DTYPES[spec.datatype])
