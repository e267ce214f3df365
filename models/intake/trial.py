"""The trial run of an imported model: does it take what its task gives it, and does every row stand for itself?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from models.catalog.card import DataType, OutputKind, Task, TensorSpec
from models.catalog.geometry import ImageGeometry, fixed_size
from models.intake.onnx_edit import append_log, append_logit, fix_batch, fix_target_sizes, free_batch
from models.intake.onnx_file import ImportRefused, OnnxFile, inputs_of, shape_of
from models.intake.onnx_run import BATCH_REMEDY, ROWS, NotRun, TrialLimits, TrialProcess, row_tolerance, run_rows
from models.intake.output_kind import output_kind
from models.intake.presets import LEAST_SIDE, MOST_SIDE
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
    """A tried model: the file to serve, its signature, the output that the task reads, and what was changed.

    ``kind`` is what the output held of itself: ``output`` holds logits whatever it was. ``answers`` are all outputs of
    one row.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output: str | None
    note: str
    kind: OutputKind = "logits"
    answers: Mapping[str, Array] = field(default_factory=dict)


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
    kind: OutputKind | None = None,
    limits: TrialLimits | None = None,
) -> Trial:
    """Bring the model to ``scratch`` and run it there with three rows and with one; raises :class:`ImportRefused`.

    A batch axis of fixed size 1 is set free where every row then gives what it gives alone, and a classifier that ends
    in a softmax or a sigmoid gets an output of logits: both are said in ``note``. ``kind`` says what its output holds.
    """
    model = file.model
    notes: list[str] = []
    inputs = [_input(value) for value in inputs_of(model)]
    if not inputs:
        raise ImportRefused("the model takes no input", "export it with the picture or the tensors as inputs")

    for location, source in file.external.items():
        (scratch / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, scratch / location)

    if task == "detect" and image is not None and len(inputs) == 2 and _is_target_sizes(inputs[1]):
        fix_target_sizes(model, inputs[0].name, inputs[1].name, fixed_size(image) or (image.side, image.side))
        notes.append(f"{inputs[1].name} is the size of the network's own input")
        inputs = inputs[:1]

    if task != "tensor" and image is not None:
        _check_picture(inputs, image)
        inputs = [_free_batch(model, inputs[0], notes)]

    batched = not any(isinstance(each.shape[:1] and each.shape[0], int) for each in inputs)
    feeds = _feeds(inputs, image, sizes)
    path, tolerance = _save(model, scratch), row_tolerance(model)

    with TrialProcess(scratch, limits or TrialLimits(), file.bytes) as process:
        try:
            full, one = run_rows(process, path, feeds, batched=batched, tolerance=tolerance, freed=bool(notes))
        except ImportRefused as error:
            if task == "detect" and batched:
                # Graphs that end in their own suppression often take one picture at a time.
                fix_batch(model)
                batched, inputs = False, [replace(each, shape=(1, *each.shape[1:])) for each in inputs]
                path, notes = _save(model, scratch), ["its pictures run one by one"]
                full = one = process.run(path, {name: array[-1:] for name, array in feeds.items()})
            else:
                if isinstance(error, NotRun) and error.while_running and image is None:
                    error.remedy = _size_remedy(axes, sizes) if (axes := _free_axes(inputs)) else error.remedy
                raise

        chosen, found = _choose(task, full, classes, output), None
        if chosen is not None and not np.isfinite(full[chosen]).all():
            raise ImportRefused(
                f"output {chosen!r} is not finite for an ordinary input", "check the model before it is exported"
            )

        if task == "classify" and chosen is not None:
            found = output_kind(model, chosen, full[chosen], kind)
            if found.kind != "logits" and not found.log:
                append = append_log if found.kind == "softmax" else append_logit
                what = "logarithm" if found.kind == "softmax" else "logit"
                chosen = append(model, chosen)
                notes.append(f"{chosen} is the {what} of the model's {found.kind}, {found.how}")
                path = _save(model, scratch)
                full, one = run_rows(process, path, feeds, batched=batched, tolerance=tolerance, freed=False)

    signature = tuple(each.spec() for each in inputs)
    outputs = tuple(_output(value, full, one, batched) for value in model.graph.output)
    return Trial(path, signature, outputs, chosen, "; ".join(notes), found.kind if found else "logits", one)


def _free_axes(inputs: Sequence[_Input]) -> list[str]:
    """Names of the axes that were tried with a size of our choosing."""
    return list(dict.fromkeys(axis or "?" for each in inputs for axis in each.shape[1:] if not isinstance(axis, int)))


def _size_remedy(axes: Sequence[str], sizes: Mapping[str, int]) -> str:
    unsaid = [axis for axis in axes if axis not in sizes]
    if "?" in unsaid:
        return "give its free axes names when it is exported, then say sizes that fit together: --size NAME=N"
    said = " ".join(f"--size {axis}={sizes.get(axis, 'N')}" for axis in axes)
    return f"free axes were tried with {FREE_SIZE} where nothing was said: say sizes that fit together, {said}"


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

    size = fixed_size(image)
    gives = "pictures of many sizes" if size is None else f"{size[0]} x {size[1]}"
    fixed = [axis for axis in only.shape[2:] if isinstance(axis, int)]
    wanted = size or (None, None)
    if any(isinstance(axis, int) and axis != side for axis, side in zip(only.shape[2:], wanted, strict=True)):
        raise ImportRefused(f"input {only.name!r} is {shown}, the preprocessing gives {gives}", _side_remedy(fixed))


def _side_remedy(fixed: Sequence[int]) -> str:
    """A preprocessing that fits the sides, where there is one."""
    if len(set(fixed)) > 1:
        return f"take a preprocessing that stretches, as unit-{fixed[1]}x{fixed[0]}, or import it as tensor"
    if not LEAST_SIDE <= fixed[0] <= MOST_SIDE:
        return f"presets give {LEAST_SIDE} to {MOST_SIDE} pixels: export it for such pictures, or import it as tensor"
    return f"take a preprocessing of {fixed[0]}, as imagenet-{fixed[0]}"


def _is_target_sizes(given: _Input) -> bool:
    """Return whether an input is the width and height that RT-DETR scales its boxes to."""
    return given.datatype in ("INT64", "INT32", "FP32") and len(given.shape) == 2 and given.shape[1] == 2


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
        if image is not None and (size := fixed_size(image)) is not None:
            shape[2:] = size
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
    if task in ("tensor", "detect"):
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
        raise ImportRefused(
            f"several outputs would do: {', '.join(fitting)}", f"say which one is meant: --output {fitting[0]}"
        )
    return preferred if preferred in fitting else fitting[0]


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
