"""Somebody's ONNX file, looked at before any engine opens it: operators, versions, and the files it points to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from models.errors import ModelError

LEAST_OPSET = 7
"""What ONNX Runtime promises to read."""
MAX_PROTO_BYTES = (1 << 31) - 1
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that the engine brings along."""
REFUSED_OPERATORS = frozenset({("com.microsoft", "EPContext")})
"""Loads a compiled binary from a path of the file's choosing."""


class ImportRefused(ModelError):
    """The model cannot be served as it is; the remedy says how to export it."""


@dataclass(frozen=True)
class OnnxFile:
    """``model`` without the content of its external data, which lies in ``external`` by its path beside the file.

    ``bytes`` counts both.
    """

    path: Path
    model: Any
    external: dict[str, Path]
    bytes: int = 0


def read_onnx(path: Path, max_bytes: int) -> OnnxFile:
    """Parse and check ``path``; raises :class:`ImportRefused` before anything large is read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}", "give an ONNX file") from error

    if size > min(max_bytes, MAX_PROTO_BYTES):
        raise _too_large(path, size, max_bytes)

    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ImportRefused(f"{path.name} is not an ONNX file, or is cut off: {error}", "export it again") from error

    if not model.graph.output:
        raise ImportRefused(f"{path.name} is not an ONNX file: it has no outputs", "give an ONNX file")

    _check_opset(model)
    _check_operators(model)
    external = _external_data(model, path)
    total = size + sum(file.stat().st_size for file in external.values())
    if total > max_bytes:
        raise _too_large(path, total, max_bytes)

    return OnnxFile(path, model, external, total)


def inputs_of(model: Any) -> list[Any]:
    """The inputs that a caller gives: the graph's, without those that are weights."""
    weights = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape_of(value: Any) -> list[int | str | None] | None:
    """Sizes of a graph input or output: a number, a name, or ``None`` for an axis of any size; ``None``: no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else axis.dim_param or None
        for axis in tensor.shape.dim
    ]


def _too_large(path: Path, size: int, limit: int) -> ImportRefused:
    if limit >= size > MAX_PROTO_BYTES:
        return ImportRefused(
            f"{path.name} is {size / 2**30:.2f} GiB, and an ONNX file can be read up to 2 GiB",
            "put its weights into a file beside it: onnx.save(model, path, save_as_external_data=True)",
        )
    return ImportRefused(
        f"{path.name} is {size / 2**30:.2f} GiB with its external data, the limit is {limit / 2**30:.2f} GiB",
        f"import a smaller model, or allow it with --max-gib {math.ceil(size / 2**30)}",
    )


def _check_opset(model: Any) -> None:
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets:
        raise ImportRefused("the file says no opset of the ONNX operators", "export it again with opset 17 or later")
    if min(opsets) < LEAST_OPSET:
        raise ImportRefused(
            f"the file is of opset {min(opsets)}, the oldest that is served is {LEAST_OPSET}",
            "export it again with opset 17 or later, or use onnx.version_converter",
        )


def _check_operators(model: Any) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    foreign = set()
    for node in _nodes(model):
        operator = (node.domain, node.op_type)
        if operator in REFUSED_OPERATORS or (node.domain not in DOMAINS and operator not in own):
            foreign.add(f"{node.domain}::{node.op_type}")
    if foreign:
        raise ImportRefused(
            f"the file uses custom operators: {', '.join(sorted(foreign))}",
            "they need a library that is not served here; export the model with standard operators",
        )


def _nodes(model: Any) -> Iterator[Any]:
    """Every node, those of branches, loops and local functions included."""
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                pending.extend(graph.node for graph in (attribute.g, *attribute.graphs) if graph.node)


def _tensors(model: Any) -> Iterator[Any]:
    """Every constant of the file: the weights of each graph, and the attributes of each node."""
    graphs = [model.graph]
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs.extend((attribute.g, *attribute.graphs))
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _external_data(model: Any, path: Path) -> dict[str, Path]:
    """The files that hold weights, by their path beside the model; each inside the model's folder."""
    folder = path.parent.resolve()
    found: dict[str, Path] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        pure = PurePosixPath(location)
        inside = bool(location) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in location
        if not inside or "\0" in location or ":" in location:
            raise ImportRefused(
                f"weight {tensor.name!r} lies in {location!r}, outside the model's folder",
                "save the model with its external data in one file beside it",
            )
        file = folder / pure
        if not file.is_file():
            raise ImportRefused(
                f"weight {tensor.name!r} lies in {location!r}, which is not there", "bring that file along"
            )
        if file.resolve() != file or not file.resolve().is_relative_to(folder):
            raise ImportRefused(f"{location!r} is a symbolic link", "put the file itself beside the model")
        try:
            end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
        except ValueError as error:
            raise ImportRefused(
                f"weight {tensor.name!r} has no readable place in {location!r}", "export it again"
            ) from error
        if end > file.stat().st_size:
            raise ImportRefused(
                f"{location!r} ends before weight {tensor.name!r}", "the file is cut off: copy it again"
            )
        found[str(pure)] = file

    return found
