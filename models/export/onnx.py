"""PyTorch to ONNX, and the proof that both compute the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import ModelError

OPSET = 20
"""What Triton's and OpenVINO's current releases read."""

MOST_INLINE = 1_900_000_000
"""Bytes of weights inside one file; protobuf ends at two gibibytes."""


Answer = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]
"""Arrays by input name to the outputs in the order of a signature: a file in some engine."""


class ExportError(ModelError):
    """The exported file does not compute what the network computes."""


@dataclass(frozen=True)
class Axis:
    """An axis of free size: ``name`` joins equal axes of several inputs; bounds are inclusive."""

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class Signature:
    """Names of inputs and outputs, and the free axes of each input by axis number."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, Axis]]


def export(network: nn.Module, example: Sequence[Tensor], signature: Signature, path: Path) -> None:
    """Trace ``network`` (in ``eval`` mode) with ``example`` and write one file.

    Weights beyond :data:`MOST_INLINE` go to a second file, ``path`` with ``.data`` at its end: keep both names.

    The example's free axes must be larger than 1: the tracer takes a size of 1 for a constant.
    """
    for name, tensor in zip(signature.inputs, example, strict=True):
        for axis in signature.free.get(name, {}):
            if tensor.shape[axis] < 2:
                raise ValueError(
                    f"example {name!r} has size {tensor.shape[axis]} on free axis {axis}; trace with 2 or more"
                )

    network.eval()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            tuple(example),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=_free_axes(signature),
            opset_version=OPSET,
            dynamo=True,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program")

    _tidy(program.model, {*signature.inputs, *signature.outputs})
    bytes_of_weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    program.save(str(path), external_data=bytes_of_weights > MOST_INLINE)


def trace(network: nn.Module, example: Sequence[Tensor], signature: Signature, path: Path) -> None:
    """As :func:`export`, by running ``network`` once and writing down what it did, sizes as they are computed.

    For networks whose sizes come from others by many divisions (windows, levels of a pyramid): the other way reasons
    about each of them in symbols and takes minutes. What depends on a value in Python, and not on a size, is fixed as
    in ``example``; weights must fit into one file.
    """
    network.eval()
    axes = {name: {number: axis.name for number, axis in free.items()} for name, free in signature.free.items()}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            network,
            tuple(example),
            str(path),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _free_axes(signature: Signature) -> tuple[dict[int, Any], ...]:
    """Return the tracer's dimensions of each input by axis number; axes of one name share one."""
    dims: dict[str, Any] = {}
    for axes in signature.free.values():
        for axis in axes.values():
            dims[axis.name] = torch.export.Dim(axis.name, min=axis.low, max=axis.high)

    free = [signature.free.get(name, {}) for name in signature.inputs]
    return tuple({number: dims[axis.name] for number, axis in axes.items()} for axes in free)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about its own internals; neither is for who pulls a model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tidy(model: ir.Model, public: set[str]) -> None:
    """Keep names that are ours for ours alone, and drop stack traces, which name files of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()

    edge = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            # Outputs are named after the torch operator, so that an embedding's value collides with "embedding".
            if value.name in public and id(value) not in edge:
                value.name = f"{value.name}_inner"

    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def verify(
    network: nn.Module,
    examples: Iterable[Sequence[Tensor]],
    signature: Signature,
    path: Path,
    *,
    tolerance: float = 1e-4,
) -> dict[str, float]:
    """Largest error of each output over ``examples``, relative to that output's largest magnitude.

    Raises :class:`ExportError` beyond ``tolerance``, or where a shape differs or a value is not finite. Give examples
    of other sizes than the one that was traced.
    """
    errors = dict.fromkeys(signature.outputs, 0.0)
    for name, want, got in _pairs(network, examples, signature, session(path, signature)):
        error = float(np.abs(got - want).max() / max(float(np.abs(want).max()), 1e-12))
        if not error <= tolerance:
            raise ExportError(f"output {name!r} is off by {error:.2e} of its largest value (at most {tolerance:.0e})")
        errors[name] = max(errors[name], error)

    return errors


def agreement(
    network: nn.Module,
    examples: Iterable[Sequence[Tensor]],
    signature: Signature,
    path: Path,
    *,
    least: float,
    answer: Answer | None = None,
    plain: bool = False,
) -> float:
    """The smallest cosine between a row of the network and the same row of the file, for files that are not exact.

    ``answer`` runs the file in another engine than ONNX Runtime; ``plain`` leaves out its fusions, which crash on
    float16 on processors. Raises :class:`ExportError` below ``least``.
    """
    smallest = 1.0
    for name, want, got in _pairs(network, examples, signature, answer or session(path, signature, plain)):
        lengths = np.linalg.norm(want, axis=-1) * np.linalg.norm(got, axis=-1)
        cosine = float(((want * got).sum(-1) / np.maximum(lengths, 1e-12)).min())
        if not cosine >= least:
            raise ExportError(f"output {name!r} has cosine {cosine:.4f} to the exact one (at least {least})")
        smallest = min(smallest, cosine)

    return smallest


def session(path: Path, signature: Signature, plain: bool = False) -> Answer:
    """``path`` in ONNX Runtime; ``plain`` as in :func:`agreement`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(list(signature.outputs), feeds)


def _pairs(
    network: nn.Module, examples: Iterable[Sequence[Tensor]], signature: Signature, answer: Answer
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Name, PyTorch's output and the file's output, for every output of every example."""
    network.eval()
    for example in examples:
        with torch.no_grad():
            expected = network(*example)
        wanted = [tensor.numpy() for tensor in (expected if isinstance(expected, tuple) else (expected,))]
        feeds = {name: tensor.numpy() for name, tensor in zip(signature.inputs, example, strict=True)}
        for name, want, got in zip(signature.outputs, wanted, answer(feeds), strict=True):
            if got.shape != want.shape:
                raise ExportError(f"output {name!r} is {got.shape} in ONNX and {want.shape} in PyTorch")
            yield name, want, got
