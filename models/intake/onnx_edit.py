"""The changes that an imported graph may need before it can be served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from models.intake.onnx_file import inputs_of


def free_batch(model: Any) -> None:
    """Declare the first axis of every input and output free. Whether the graph agrees, only a run can tell."""
    for value in (*inputs_of(model), *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]  # what was inferred for one row


def fix_batch(model: Any) -> None:
    """Declare that every input holds one picture: what :func:`free_batch` has set free does not run otherwise."""
    for value in inputs_of(model):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def fix_target_sizes(model: Any, images: str, sizes: str, size: tuple[int, int]) -> None:
    """Give the input ``sizes`` ``(N, 2)``, the width and height that boxes are scaled to, those of the tensor itself.

    RT-DETR's exporter asks for them beside the images; where boxes lie in the picture is the server's business.
    """
    graph = model.graph
    given = next(value for value in graph.input if value.name == sizes)
    element = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    graph.input.remove(given)
    constants = {
        f"{sizes}_pixels": np.array([[size[1], size[0]]], element),
        f"{sizes}_zero": np.array([0], np.int64),
        f"{sizes}_one": np.array([1], np.int64),
        f"{sizes}_two": np.array([2], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    nodes = [
        helper.make_node("Shape", [images], [f"{sizes}_shape"]),
        helper.make_node("Slice", [f"{sizes}_shape", f"{sizes}_zero", f"{sizes}_one"], [f"{sizes}_rows"]),
        helper.make_node("Concat", [f"{sizes}_rows", f"{sizes}_two"], [f"{sizes}_full"], axis=0),
        helper.make_node("Expand", [f"{sizes}_pixels", f"{sizes}_full"], [sizes]),
    ]
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])


def append_log(model: Any, name: str) -> str:
    """Add an output ``log(name + 1e-12)`` and give its name: its softmax is ``name`` again, as for any logits."""
    return _append(model, name, ("logits", f"{name}_log", f"{name}_log_of_softmax"), odds=False)


def append_logit(model: Any, name: str) -> str:
    """Add an output ``log(name / (1 - name))`` and give its name: its sigmoid is ``name`` again, as for any logits."""
    return _append(model, name, ("logits", f"{name}_logit", f"{name}_logit_of_sigmoid"), odds=True)


def _append(model: Any, name: str, names: Sequence[str], *, odds: bool) -> str:
    taken = {value for node in model.graph.node for value in (*node.input, *node.output)}
    fresh = next(each for each in names if each not in taken)
    log = _log(model, name, f"{fresh}_shifted", f"{fresh}_yes" if odds else fresh, f"{fresh}_tiny")
    if odds:
        one = f"{fresh}_one"
        model.graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), one))
        model.graph.node.append(helper.make_node("Sub", [one, name], [f"{fresh}_rest"]))
        rest = _log(model, f"{fresh}_rest", f"{fresh}_rest_shifted", f"{fresh}_no", f"{fresh}_rest_tiny")
        model.graph.node.append(helper.make_node("Sub", [log, rest], [fresh]))

    (declared,) = (value for value in model.graph.output if value.name == name)
    added = model.graph.output.add()
    added.CopyFrom(declared)
    added.name = fresh
    return fresh


def _log(model: Any, name: str, shifted: str, log: str, tiny: str) -> str:
    """``log(name + 1e-12)``: nothing has a logarithm of minus infinity."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e-12], np.float32), tiny))
    model.graph.node.append(helper.make_node("Add", [name, tiny], [shifted]))
    model.graph.node.append(helper.make_node("Log", [shifted], [log]))
    return log
