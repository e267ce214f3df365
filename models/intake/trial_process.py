"""``python -m models.intake.trial_process``: runs an ONNX file for the trial, in a process that may die of it.

A line of JSON on standard input asks for one run: ``{"model": path, "inputs": names, "feeds": path, "answers": path}``,
the last two files of NumPy with one array a name. A line on standard output answers: ``{"outputs": names}``, or
``{"error": text}``. It imports the engine and nothing else, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

NO_TENSOR = "an output is no tensor"


def main(most: int) -> None:
    """Answer runs until standard input ends; the kernel refuses memory beyond ``most`` bytes."""
    _limit(most)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints does not print into the replies

    for line in sys.stdin:
        asked = json.loads(line)
        reply: dict[str, Any]
        try:
            reply = {"outputs": _run(asked["model"], asked["inputs"], Path(asked["feeds"]), Path(asked["answers"]))}
        except Exception as error:  # the engine's own exceptions share no base but Exception
            reply = {"error": str(error).strip() or type(error).__name__}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _limit(most: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # where there is none, the time limit is left
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # what is written to, and not what is mapped: weights are
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _run(model: str, inputs: list[str], feeds: Path, answers: Path) -> list[str]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with np.load(feeds, allow_pickle=False) as file:
        given = {name: _texts_in(file[f"arr_{number}"]) for number, name in enumerate(inputs)}

    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answered = session.run(names, given)
    if not all(isinstance(array, np.ndarray) for array in answered):
        raise TypeError(NO_TENSOR)

    with answers.open("wb") as sink:
        np.savez(sink, *(texts_out(array) for array in answered))
    return names


def _texts_in(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Texts as the engine takes them; files of NumPy hold no objects."""
    return array.astype(object) if array.dtype.kind == "U" else array


def texts_out(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Texts as a file of NumPy takes them."""
    return array.astype(str) if array.dtype.kind == "O" else array


if __name__ == "__main__":
    main(int(sys.argv[1]))
