"""The two changes that an imported graph may need before it can be served."""

from __future__ import annotations

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


def append_log(model: Any, name: str) -> str:
    """Add an output ``log(name + 1e-12)`` and give its name: its softmax is ``name`` again, as for any logits."""
    taken = {value for node in model.graph.node for value in (*node.input, *node.output)}
    fresh = next(each for each in ("logits", f"{name}_log", f"{name}_log_of_softmax") if each not in taken)
    tiny, shifted = f"{fresh}_tiny", f"{fresh}_shifted"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e-12], np.float32), tiny))
    model.graph.node.append(helper.make_node("Add", [name, tiny], [shifted]))
    model.graph.node.append(helper.make_node("Log", [shifted], [fresh]))
    (declared,) = (value for value in model.graph.output if value.name == name)
    added = model.graph.output.add()
    added.CopyFrom(declared)
    added.name = fresh
    return fresh
