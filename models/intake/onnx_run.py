"""Runs an ONNX file with a batch and with its last row alone: every row stands for itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.intake.onnx_file import ImportRefused

Array = NDArray[Any]
ROWS = 3
BATCH_REMEDY = "export it with a free batch axis: torch.onnx.export(..., dynamic_shapes={'x': {0: 'batch'}})"
TOLERANCE = 1e-3
QUANTISED_TOLERANCE = 0.1
"""Activations that are quantised while running share one scale over the whole batch, so rows do touch each other."""


def row_tolerance(model: Any) -> float:
    """Return how far a row may be from itself alone, as a share of its largest value."""
    quantises = any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node)
    return QUANTISED_TOLERANCE if quantises else TOLERANCE


def run_rows(
    path: Path, feeds: Mapping[str, Array], *, batched: bool, tolerance: float, freed: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run the model on all rows, and on the last row alone, which must give the same."""
    try:
        full = _run(path, feeds)
        one = _run(path, {name: array[-1:] for name, array in feeds.items()}) if batched else full
    except ImportRefused as error:
        if freed:
            raise ImportRefused(
                f"the batch axis is fixed at 1, and the graph relies on it: {error}", BATCH_REMEDY
            ) from error
        raise

    if batched:
        for name, array in full.items():
            _check_rows(name, array, one[name], tolerance)
    return full, one


def _check_rows(name: str, full: Array, one: Array, tolerance: float) -> None:
    """Refuse an output whose rows are not its first axis, or whose last row is another one alone."""
    if full.shape[:1] != (ROWS,) or one.shape[:1] != (1,):
        raise ImportRefused(
            f"output {name!r} is {list(full.shape)} for {ROWS} rows and {list(one.shape)} for one",
            "every output needs the batch as its first axis; export without that output",
        )

    if not _same(full[-1:], one, tolerance):
        raise ImportRefused(
            f"output {name!r} of a row depends on the other rows of its batch",
            "export the model in inference mode (batch norm and dropout off), with a free batch axis",
        )


def _run(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4

    sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        answered = session.run(names, dict(feeds))
    # The engine's own exceptions share no base but Exception.
    except Exception as error:
        said = str(error).strip().splitlines()[0][-400:]
        raise ImportRefused(
            f"the model does not run with {sizes}: {said}",
            "export it again with a free batch axis and current operators",
        ) from error

    if not all(isinstance(array, np.ndarray) for array in answered):
        raise ImportRefused("an output of the model is no tensor", "export it without sequences and maps")
    return dict(zip(names, answered, strict=True))


def _same(row: Array, alone: Array, tolerance: float) -> bool:
    if row.shape != alone.shape:
        return False
    if not np.issubdtype(row.dtype, np.floating):
        return bool((row == alone).all())
    finite = alone[np.isfinite(alone)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return np.allclose(row, alone, rtol=0, atol=tolerance * scale + 1e-6, equal_nan=True)
