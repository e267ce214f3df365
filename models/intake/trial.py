"""The trial run of an imported model: does it take what its task gives it, and does every row stand for itself?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from models.catalog.card import DataType, Task, TensorSpec
from models.catalog.geometry import ImageGeometry, fixed_side
from models.intake.onnx_edit import append_log, free_batch
from models.intake.onnx_file import ImportRefused, OnnxFile, inputs_of, shape_of
from models.intake.onnx_run import BATCH_REMEDY, ROWS, row_tolerance, run_rows
from models.repository.reading import MODEL

Array = NDArray[Any]
FREE_SIZE = 8
"""What an axis of any size is tried with."""

ELEMENTS: dict[int, tuple[DataType, type[np.generic]]] = {
    TensorProto.BOOL: ("BOOL", np.bool_),
    TensorProto.UINT8: ("UINT8", np.uint8),
    TensorProto.UINT16: ("UINT16", np.uint16),
    TensorProto.UINT32: ("UINT32", np.uint32),
    TensorProto.UINT64: ("UINT64", np.uint64),
    TensorProto.INT8: ("INT8", np.int8),
    TensorProto.INT16: ("INT16", np.int16),
    TensorProto.INT32: ("INT32", np.int32),
    TensorProto.INT64: ("INT64", np.int64),
    TensorProto.FLOAT16: ("FP16", np.float16),
    TensorProto.FLOAT: ("FP32", np.float32),
    TensorProto.DOUBLE: ("FP64", np.float64),
    TensorProto.STRING: ("BYTES", np.object_),
}


@dataclass(frozen=True)
class Trial:
    """A tried model: the file to serve, its signature, the output that the task reads, and what was changed."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output: str | None
    note: str


@dataclass(frozen=True)
class _Input:
    name: str
    datatype: DataType
    element: type[np.generic]
    shape: tuple[int | str | None, ...]

    def spec(self) -> TensorSpec:
        return TensorSpec(name=self.name, datatype=self.datatype, shape=tuple(_size(axis) for axis in self.shape))


def try_out(
    file: OnnxFile,
    task: Task,
    scratch: Path,
    *,
    image: ImageGeometry | None,
    classes: int,
    output: str | None,
    sizes: Mapping[str, int],
) -> Trial:
    """Bring the model to ``scratch`` and run it there with three rows and with one; raises :class:`ImportRefused`.

    A batch axis of fixed size 1 is set free where every row then gives what it gives alone, and a classifier that ends
    in a softmax gets an output of logits: both are said in ``note``.
    """
    model = file.model
    notes: list[str] = []
    tolerance = row_tolerance(model)
    inputs = [_input(value) for value in inputs_of(model)]
    if not inputs:
        raise ImportRefused("the model takes no input", "export it with the picture or the tensors as inputs")

    for location, source in file.external.items():
        (scratch / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, scratch / location)

    if task != "tensor" and image is not None:
        _check_picture(inputs, image)
        inputs = [_free_batch(model, inputs[0], notes)]

    batched = not any(isinstance(each.shape[:1] and each.shape[0], int) for each in inputs)
    feeds = _feeds(inputs, image, sizes)

    path = _save(model, scratch)
    full, one = run_rows(path, feeds, batched=batched, tolerance=tolerance, freed=bool(notes))

    chosen = _choose(task, full, classes, output)
    if chosen is not None and not np.isfinite(full[chosen]).all():
        raise ImportRefused(
            f"output {chosen!r} is not finite for an ordinary input", "check the model before it is exported"
        )

    if task == "classify" and chosen is not None and _is_softmax(full[chosen]):
        chosen = append_log(model, chosen)
        notes.append(f"{chosen} is the logarithm of the model's softmax")
        full, one = run_rows(_save(model, scratch), feeds, batched=batched, tolerance=tolerance, freed=False)

    signature = tuple(each.spec() for each in inputs)
    outputs = tuple(_output(value, full, one, batched) for value in model.graph.output)
    return Trial(path, signature, outputs, chosen, "; ".join(notes))


def _input(value: Any) -> _Input:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in ELEMENTS:
        raise ImportRefused(f"input {value.name!r} is no tensor of a type that is served", f"types are {_types()}")
    shape = shape_of(value)
    if not shape:
        raise ImportRefused(f"input {value.name!r} has no shape, or is a scalar", "export it with a batch axis")
    return _Input(value.name, *ELEMENTS[tensor.elem_type], tuple(shape))


def _types() -> str:
    return ", ".join(name for name, _ in ELEMENTS.values())


def _check_picture(inputs: Sequence[_Input], image: ImageGeometry) -> None:
    """One input, ``(N, 3, H, W) float32``, of the size that the preprocessing gives."""
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise ImportRefused(f"an image model has one input, this one has {names}", "import it with task tensor")

    (only,) = inputs
    shown = [axis if axis is not None else "?" for axis in only.shape]
    if len(only.shape) != 4 or (only.shape[3] == 3 and only.shape[1] != 3):
        raise ImportRefused(
            f"input {only.name!r} is {shown}, not (N, 3, H, W)",
            "export the model with channels first, or import it as tensor",
        )

    if only.shape[1] not in (3, None) and not isinstance(only.shape[1], str):
        raise ImportRefused(f"input {only.name!r} takes {only.shape[1]} channels, not 3", "import it with task tensor")
    if only.datatype != "FP32":
        raise ImportRefused(f"input {only.name!r} is {only.datatype}, not FP32", "export the model with float32 inputs")

    side = fixed_side(image)
    gives = "pictures of many sizes" if side is None else f"{side} x {side}"
    for axis in only.shape[2:]:
        if isinstance(axis, int) and axis != side:
            raise ImportRefused(
                f"input {only.name!r} is {shown}, the preprocessing gives {gives}",
                f"take a preprocessing of {axis}, as imagenet-{axis}",
            )


def _free_batch(model: Any, only: _Input, notes: list[str]) -> _Input:
    """The input with a free first axis; a size of 1 is set free in the graph, to be proved by the run."""
    first = only.shape[0]
    if not isinstance(first, int):
        return only
    if first != 1:
        raise ImportRefused(f"the batch axis is fixed at {first}", BATCH_REMEDY)
    free_batch(model)
    notes.append("the batch axis was fixed at 1 and is free now")
    return _Input(only.name, only.datatype, only.element, ("batch", *only.shape[1:]))


def _feeds(inputs: Sequence[_Input], image: ImageGeometry | None, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of three rows: normal numbers, small integers, short texts. Axes of one name have one size."""
    generator = np.random.default_rng(0)
    feeds = {}

    for each in inputs:
        shape = [_tried(axis, image, sizes) for axis in each.shape]
        if not isinstance(each.shape[0], int):
            shape[0] = ROWS

        if each.datatype == "BYTES":
            feeds[each.name] = np.full(shape, "a", dtype=object)
        elif np.issubdtype(each.element, np.floating):
            feeds[each.name] = generator.standard_normal(shape).astype(each.element)
        else:
            feeds[each.name] = generator.integers(0, 2, shape).astype(each.element)

    return feeds


def _tried(axis: int | str | None, image: ImageGeometry | None, sizes: Mapping[str, int]) -> int:
    if isinstance(axis, int):
        return axis
    return image.side if image is not None else sizes.get(axis or "", FREE_SIZE)


def _save(model: Any, scratch: Path) -> Path:
    path = scratch / MODEL
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _choose(task: Task, answers: Mapping[str, Array], classes: int, output: str | None) -> str | None:
    """The output that the task reads: the one that was named, or the only one that fits."""
    if task == "tensor":
        return None
    shown = ", ".join(f"{name} {list(array.shape)}" for name, array in answers.items())
    if output is not None and output not in answers:
        raise ImportRefused(f"the model has no output {output!r}", f"its outputs are {shown}")

    flat = {
        name: array
        for name, array in answers.items()
        if array.ndim == 2 and array.dtype == np.float32 and output in (None, name)
    }
    if not flat:
        raise ImportRefused(f"no output is (N, C) float32; there are {shown}", "export the model with such an output")

    fitting = [name for name, array in flat.items() if task != "classify" or array.shape[1] == classes]
    if not fitting:
        raise ImportRefused(
            f"there are {classes} labels, the model gives {shown}", "give one label for each class, in order"
        )

    preferred = "logits" if task == "classify" else "embedding"
    if len(fitting) > 1 and preferred not in fitting:
        raise ImportRefused(f"several outputs would do: {', '.join(fitting)}", "say which one is meant")
    return preferred if preferred in fitting else fitting[0]


def _is_softmax(values: Array) -> bool:
    return values.shape[1] > 1 and bool((values >= 0).all()) and bool(np.allclose(values.sum(1), 1.0, atol=1e-3))


def _size(axis: int | str | None) -> int:
    return axis if isinstance(axis, int) else -1


def _output(value: Any, full: Mapping[str, Array], one: Mapping[str, Array], batched: bool) -> TensorSpec:
    """The declared shape where there is one, else what was seen; the batch axis is free."""
    kind = value.type.tensor_type.elem_type
    if kind not in ELEMENTS:
        raise ImportRefused(f"output {value.name!r} is of a type that is not served", f"types are {_types()}")
    seen, alone = full[value.name].shape, one[value.name].shape
    declared = shape_of(value)
    sizes = [_size(axis) for axis in declared] if declared and len(declared) == len(seen) else list(seen)
    # A size that differs between the runs is free, whatever was declared.
    shape = [-1 if batched and a != b else size for size, a, b in zip(sizes, seen, alone, strict=True)]
    return TensorSpec(name=value.name, datatype=ELEMENTS[kind][0], shape=tuple(shape))
