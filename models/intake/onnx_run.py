"""Runs an ONNX file with a batch and with its last row alone: every row stands for itself.

The engine runs in a process of its own with limits of time and memory, because a file of a few kilobytes can ask for
any amount of either: local functions that call each other twice are written out before anything is run.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intake.onnx_file import ImportRefused
from models.intake.trial_process import NO_TENSOR, texts_out

Array = NDArray[Any]
ROWS = 3
BATCH_REMEDY = "export it with a free batch axis: torch.onnx.export(..., dynamic_shapes={'x': {0: 'batch'}})"
TOLERANCE = 1e-3
QUANTISED_TOLERANCE = 0.1
"""Activations that are quantised while running share one scale over the whole batch, so rows do touch each other."""

GIB = 1 << 30


@dataclass(frozen=True)
class TrialLimits:
    """How long a trial may take and how much memory it may have; ``gib`` absent: 8, and four times the model's own."""

    seconds: float = 120.0
    gib: float | None = None

    def bytes_for(self, model_bytes: int) -> int:
        """Bytes that the process of the trial may write to."""
        return int(self.gib * GIB) if self.gib is not None else 8 * GIB + 4 * model_bytes


class TrialProcess:
    """The process of one trial; it is started by the first run, and gone when the block ends."""

    def __init__(self, scratch: Path, limits: TrialLimits, model_bytes: int) -> None:
        self._scratch = scratch
        self._limits = limits
        self._most = limits.bytes_for(model_bytes)
        self._end = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TrialProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def run(self, path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output of the model at ``path`` by its name; raises :class:`ImportRefused`."""
        given, answers = self._scratch / "trial-feeds.npz", self._scratch / "trial-answers.npz"
        with given.open("wb") as sink:
            np.savez(sink, *(texts_out(array) for array in feeds.values()))

        asked = {
            "model": str(path.resolve()),
            "inputs": list(feeds),
            "feeds": str(given.resolve()),
            "answers": str(answers.resolve()),
        }
        try:
            reply = self._ask(json.dumps(asked).encode() + b"\n")
            if "error" in reply:
                raise refusal_of(reply["error"], feeds, self._most)
            with np.load(answers, allow_pickle=False) as file:
                return {name: file[f"arr_{number}"] for number, name in enumerate(reply["outputs"])}
        finally:
            for left in (given, answers):
                left.unlink(missing_ok=True)

    def _ask(self, line: bytes) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: there will be no reply
            process.stdin.write(line)
            process.stdin.flush()

        left = self._end - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(left, 0.0))
        if not ready:
            raise ImportRefused(
                f"the trial run was ended after {self._limits.seconds:g} s",
                "local functions or loops that grow the graph are written out before it runs: export it without them; "
                "or allow more time with --trial-seconds",
            )
        reply = process.stdout.readline()
        if not reply.endswith(b"\n"):
            raise self._died(process.wait())
        found: dict[str, Any] = json.loads(reply)
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._end = time.monotonic() + self._limits.seconds
            self._process = subprocess.Popen(
                [sys.executable, "-m", "models.intake.trial_process", str(self._most)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],  # where the package is found, however this one was started
            )
        return self._process

    def _died(self, status: int) -> ImportRefused:
        what = f"signal {-status}" if status < 0 else f"exit code {status}"
        return ImportRefused(
            f"the engine died of the trial run ({what}), with {self._most / GIB:.1f} GiB of memory allowed",
            "if the model is large, allow more with --trial-memory; else its graph is one that the engine cannot run: "
            "export it again",
        )


class NotRun(ImportRefused):
    """The engine would not open the model, or failed with these inputs (``while_running``)."""

    def __init__(self, message: str, remedy: str, *, while_running: bool) -> None:
        super().__init__(message, remedy)
        self.while_running = while_running


def refusal_of(said: str, feeds: Mapping[str, Array], most: int) -> ImportRefused:
    """What the engine ``said``, in its own words but without its source files, and what helps against it."""
    if NO_TENSOR in said:
        return ImportRefused("an output of the model is no tensor", "export it without sequences and maps")
    if re.search("bad_alloc|MemoryError|[Ff]ailed to allocate|Unable to allocate", said):
        return ImportRefused(
            f"the trial run needs more than the {most / GIB:.1f} GiB of memory that it may have",
            "import a smaller model, or allow more with --trial-memory",
        )

    words = textwrap.shorten(_NOISE.sub("", said), 400, placeholder=" ...")
    for pattern, message, remedy in _UNOPENED:
        if match := re.search(pattern, said):
            why = match.expand(message) or f"the engine cannot open the model: {words}"
            return NotRun(why, match.expand(remedy), while_running=False)
    sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
    return NotRun(f"the model does not run with {sizes}: {words}", BATCH_REMEDY, while_running=True)


_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|"
    r"\S*onnxruntime_src/\S+ (?:[^()]*::[^()]*\(.*?\)(?: const)? (?:\[[^\]]*\] )?)?"
)
_UNOPENED = (
    (
        r"support for domain \S+ is till opset (\d+)",
        r"the file is of a later opset than the engine knows, which is \1",
        r"export it again with opset \1 or lower",
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        r"the file is of the ONNX format's version \1, the engine knows them up to \2",
        r"set model.ir_version = \2 and save it again (onnx.save), or export it with an earlier release of onnx",
    ),
    ("No Op registered", "", "export it again with standard operators, of an opset that has them"),
    (
        "Load model from|ShapeInferenceError|INVALID_GRAPH",
        "",
        "onnx.checker.check_model(model, full_check=True) says where: mend that, and export it again",
    ),
)
"""What the engine says of a model that it does not even open, what that means, and what helps."""


def row_tolerance(model: Any) -> float:
    """Return how far a row may be from itself alone, as a share of its largest value."""
    quantises = any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node)
    return QUANTISED_TOLERANCE if quantises else TOLERANCE


def run_rows(
    process: TrialProcess, path: Path, feeds: Mapping[str, Array], *, batched: bool, tolerance: float, freed: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run the model on all rows, and on the last row alone, which must give the same."""
    try:
        full = process.run(path, feeds)
        one = process.run(path, {name: array[-1:] for name, array in feeds.items()}) if batched else full
    except NotRun as error:
        if freed and error.while_running:
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


def _same(row: Array, alone: Array, tolerance: float) -> bool:
    if row.shape != alone.shape:
        return False
    if not np.issubdtype(row.dtype, np.floating):
        return bool((row == alone).all())
    finite = alone[np.isfinite(alone)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return np.allclose(row, alone, rtol=0, atol=tolerance * scale + 1e-6, equal_nan=True)
