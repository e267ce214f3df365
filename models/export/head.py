"""Give an exported encoder a new classification head: one linear layer behind its features, in the same graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.errors import ModelError


def append_linear_head(
    encoder: Path,
    features: str,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    into: Path,
    *,
    normalize: bool = False,
    keep: Sequence[str] = (),
) -> None:
    """Write ``encoder`` with ``logits = features @ weight.T + bias`` as its outputs ``logits`` and ``features``.

    ``weight`` ``(C, D)``, ``bias`` ``(C,)``; ``normalize`` scales the features to unit length first. Of the encoder's
    other outputs those in ``keep`` stay; the rest go, and with them whatever only they need. Raises
    :class:`ModelError` when the encoder has no such output or another width.
    """
    model = onnx.load(encoder)
    graph = model.graph
    there = {output.name: output for output in graph.output}
    missing = [name for name in (features, *keep) if name not in there]
    if missing:
        raise ModelError(f"{encoder.name} has no output {missing[0]!r}", f"its outputs are {', '.join(there)}")

    width = there[features].type.tensor_type.shape.dim[-1].dim_value
    if width and width != weight.shape[1]:
        raise ModelError(f"the head takes {weight.shape[1]} features, {encoder.name} gives {width}")

    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    head = [f"head_{part}" for part in ("weight", "bias", "unit")]
    if "logits" in taken - {output.name for output in graph.output} or taken & set(head):
        raise ModelError(f"{encoder.name} uses the names of the new head already", "export the encoder again")

    _free_the_name(graph, "logits")
    graph.initializer.extend(
        [numpy_helper.from_array(weight.astype(np.float32), head[0]), numpy_helper.from_array(bias, head[1])]
    )
    source = features
    if normalize:
        graph.node.append(helper.make_node("LpNormalization", [features], [head[2]], axis=-1, p=2))
        source = head[2]

    graph.node.append(helper.make_node("Gemm", [source, *head[:2]], ["logits"], name="head", transB=1))
    batch = there[features].type.tensor_type.shape.dim[0].dim_param or "batch"
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(bias)])
    del graph.output[:]
    graph.output.extend([logits, there[features], *(there[name] for name in keep)])
    _drop_dead_nodes(graph)
    onnx.checker.check_model(model)
    onnx.save(model, into)


def _free_the_name(graph: onnx.GraphProto, name: str) -> None:
    """Rename the tensor ``name`` of the old head; it is an output, so no node of the encoder reads it."""
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output == name:
                node.output[position] = f"encoder_{name}"


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output needs; nodes are in topological order, so one pass back is enough."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [weight for weight in graph.initializer if weight.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
