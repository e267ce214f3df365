"""What a classifier's output holds: logits, or what a softmax or a sigmoid has made of them.

The graph says it where its last operators are known ones, the trial run says what the values look like; only where the
two leave a doubt its owner is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import OutputKind
from models.intake.onnx_file import ImportRefused

Array = NDArray[Any]
Made = Literal["softmax", "sigmoid", "linear", "unknown"]
"""What the last operators of a graph make: ``linear`` is a product with weights, which no activation follows."""

_STEPS = 100
"""Operators that are followed back from an output, those of local functions included."""

_SUM = 1e-3
"""By how much the sum of a row of probabilities may miss 1: half precision and quantised steps round."""

_PASSED = frozenset(
    {
        *("Identity", "Cast", "CastLike", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Dropout"),
        *("QuantizeLinear", "DequantizeLinear", "Slice", "Gather"),
        *("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceMax"),
    }
)
"""Operators whose result is on the scale of their first input. Pools stand for crops and places that are joined."""

_JOINS = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Concat", "Where"})
_SCALES = frozenset({"Add", "Sub", "Mul", "Div"})
"""With a constant as the other operand these scale and shift; the trial run tells whether they do."""

_LINEAR = frozenset(
    {
        *("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "BatchNormalization"),
        *("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm", "MatMulNBits"),
        *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "FusedMatMul"),
    }
)
_ACTIVATIONS: dict[str, Made] = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "QLinearSoftmax": "softmax",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "sigmoid",
    "QLinearSigmoid": "sigmoid",
}


@dataclass(frozen=True)
class Found:
    """``kind`` and how it is known; ``log``: the values are logarithms of a softmax, as ``LogSoftmax`` gives them."""

    kind: OutputKind
    how: str
    log: bool = False


def output_kind(model: Any, output: str, values: Array, said: OutputKind | None = None) -> Found:
    """What the output ``values (B, C) float32`` of a trial run holds, of a graph ``model`` (an ONNX ``ModelProto``).

    ``said`` is what its owner says, which must be possible. Raises :class:`ImportRefused` where graph and values leave
    a doubt, or where what was said cannot be.
    """
    seen = _looks_like(values)
    if said is not None:
        return _as_said(output, values, said, seen)

    made = made_by(model, output)
    if seen == "log-softmax":
        return Found("softmax", "its rows are logarithms of shares of 1", log=True)
    if seen == "softmax":
        how = "as the graph says" if made == "softmax" else "its rows add up to 1"
        return Found("softmax", how)
    if made == "sigmoid" and seen == "shares":
        return Found("sigmoid", "as the graph says")
    if made == "linear" or (made == "unknown" and seen == "any"):
        return Found("logits", "no softmax or sigmoid was found")
    raise _unsure(output, values, made)


def made_by(model: Any, output: str) -> Made:
    """What the operators before ``output`` make, as far as it can be read from the graph."""
    scope = _Scope(model.graph.node, model.graph.initializer)
    functions = {(one.domain, one.name): one for one in model.functions}
    return _Trace(functions).follow(scope, output)


def _looks_like(values: Array) -> Literal["softmax", "log-softmax", "shares", "any"]:
    rows = values.astype(np.float64)
    if rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=_SUM):
        return "softmax"
    if rows.shape[1] > 1 and (rows <= _SUM).all() and np.allclose(np.exp(rows).sum(axis=1), 1.0, atol=_SUM):
        return "log-softmax"
    return "shares" if ((rows >= 0) & (rows <= 1)).all() else "any"


def _as_said(output: str, values: Array, said: OutputKind, seen: str) -> Found:
    how = "as its owner says"
    if said == "softmax" and seen not in ("softmax", "log-softmax"):
        raise ImportRefused(
            f"output {output!r} is no softmax: its rows add up to {_range(values.sum(axis=1))} for ordinary inputs",
            "say --output-kind logits, or sigmoid where each value is a probability of its own",
        )
    if said == "sigmoid" and seen not in ("shares", "softmax"):
        raise ImportRefused(
            f"output {output!r} is no sigmoid: its values go {_range(values)} for ordinary inputs",
            "say --output-kind logits, or export the model without what follows its sigmoid",
        )
    return Found(said, how, log=said == "softmax" and seen == "log-softmax")


def _range(values: Array) -> str:
    return f"from {float(values.min()):.3g} to {float(values.max()):.3g}"


def _unsure(output: str, values: Array, made: Made) -> ImportRefused:
    why = (
        "yet no softmax or sigmoid was found before it"
        if made == "unknown"
        else f"though a {made} is among the last operators before it"
    )
    return ImportRefused(
        f"what output {output!r} holds is not certain: for ordinary inputs its values go {_range(values)}, {why}",
        "say it: --output-kind sigmoid (each value is a probability of its own), softmax (a row adds up to 1) or "
        "logits (anything else)",
    )


@dataclass
class _Scope:
    """A graph or the body of a function: who makes a value, which values are constants, and where inputs come from."""

    nodes: Sequence[Any]
    weights: Sequence[Any] = ()
    inputs: dict[str, tuple[_Scope, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.makers = {value: node for node in self.nodes for value in node.output}
        self.constants = {weight.name for weight in self.weights}
        for node in self.nodes:
            if self.constants.issuperset(node.input):  # of none as well: a Constant
                self.constants.update(node.output)


@dataclass
class _Trace:
    functions: dict[tuple[str, str], Any]
    left: int = _STEPS

    def follow(self, scope: _Scope, value: str) -> Made:
        """Go back from ``value`` to the operator that gave it its scale."""
        while self.left > 0:
            self.left -= 1
            node = scope.makers.get(value)
            if node is None:
                if value not in scope.inputs:
                    return "unknown"
                scope, value = scope.inputs[value]
                continue

            function = self.functions.get((node.domain, node.op_type))
            if function is not None:
                value = function.output[list(node.output).index(value)]
                given = dict(zip(function.input, ((scope, name) for name in node.input), strict=False))
                scope = _Scope(function.node, inputs=given)
                continue

            if node.op_type in _ACTIVATIONS:
                return _ACTIVATIONS[node.op_type]
            if node.op_type in _LINEAR:
                return "linear"
            if node.op_type in ("Clip", "Log"):
                made = self.follow(scope, node.input[0])
                return "unknown" if made == "linear" else made
            if node.op_type in _JOINS:
                return self._joined(scope, node)
            if node.op_type not in _PASSED:
                return "unknown"
            value = node.input[0]

        return "unknown"

    def _joined(self, scope: _Scope, node: Any) -> Made:
        """What several operands make together: what each of them is, where they agree."""
        operands = list(self._operands(scope, node))
        made = {self.follow(scope, name) for name in operands}
        if len(made) != 1:
            return "unknown"
        (only,) = made
        alone = len(operands) == 1 or node.op_type in ("Concat", "Mean")
        return only if alone or (only == "linear" and node.op_type in ("Add", "Sub", "Sum")) else "unknown"

    @staticmethod
    def _operands(scope: _Scope, node: Any) -> Iterator[str]:
        names = node.input[1:] if node.op_type == "Where" else node.input
        for name in names:
            if not (node.op_type in _SCALES and name in scope.constants):
                yield name
