"""Parity of the released form (:mod:`models.kadaptation.reference`) with numbers that the released code gave.

A fixture is a folder with ``meta.json``, whose cases name a file each: inputs, outputs, updates, gradients, and the
weights under ``weights/`` and the reference's own names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from models.kadaptation.deltas import KADAPTATION_SCALE, KRONECKER_FACTORS
from models.kadaptation.reference import (
    VIT_B32,
    Attention,
    EncoderConfig,
    Method,
    Transformer,
    VisionTransformer,
    kronecker_products,
    trainable,
)
from models.parity import Comparison, Fixture, compare, read_tensors

GRADIENT_ATOL = 2e-6
"""Of a gradient's largest element: its small elements are differences of large sums in float32."""

Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Tolerance:
    atol: float
    rtol: float


def check(fixture: Fixture) -> list[Comparison]:
    """Every case of the fixture, tensor by tensor, and the published numbers of parameters."""
    stated = fixture.config["tolerance"]
    tolerance = _Tolerance(float(stated["atol"]), float(stated["rtol"]))
    found = [
        _equal("factors", KRONECKER_FACTORS, fixture.config["phm_dim"]),
        _equal("scale", KADAPTATION_SCALE, fixture.config.get("scale_factor", KADAPTATION_SCALE)),
    ]
    for case in fixture.config["cases"]:
        own = fixture.config.get("tolerances", {}).get(case["name"], case.get("tolerance"))
        limits = _Tolerance(float(own["atol"]), float(own["rtol"])) if own else tolerance
        try:
            compared = _check_case(case, _tensors(fixture.path / case["file"]), limits)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:  # the others are run anyway
            why = f"cannot be computed: {error if str(error) else type(error).__name__}"
            compared = [Comparison("case", float("inf"), limits.atol, limits.rtol, False, why)]
        found += [
            Comparison(f"{case['name']}/{one.name}", one.error, one.atol, one.rtol, one.ok, one.note)
            for one in compared
        ]

    return found + _check_counts(fixture.config.get("counts", {}))


def _tensors(file: Path) -> dict[str, Tensor]:
    found = read_tensors(file)
    if not found:
        raise ValueError(f"{file} is not there, or holds nothing")
    return found


def build(case: Case) -> nn.Module:
    """The network that a case describes: one attention, a transformer, or a whole image tower."""
    method = _method(case)
    if "embed_dim" in case:
        return Attention(case["embed_dim"], case["num_heads"], method)
    if "patch_size" not in case:
        return Transformer(EncoderConfig(case["width"], case["layers"], case["heads"], method))

    config = EncoderConfig(
        case["width"],
        case["layers"],
        case["heads"],
        method,
        case["input_resolution"],
        case["patch_size"],
        case["output_dim"],
    )
    return VisionTransformer(config)


def weights_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a case's file, under the reference's names."""
    return {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}


def _method(case: Case) -> Method:
    named: list[Method] = [method for method in get_args(Method) if method in case["name"]]
    return case.get("method") or (named[0] if named else "kadaptation")


def _check_case(case: Case, tensors: dict[str, Tensor], tolerance: _Tolerance) -> list[Comparison]:
    model = _loaded(build(case), weights_of(tensors), case["name"])

    def against(name: str, actual: Tensor | None) -> Comparison:
        return compare(name, actual, tensors[name], tolerance.atol, tolerance.rtol)

    output = model(tensors["input"])
    found = [against("output", output)]
    if isinstance(model, Attention) and model.method == "kadaptation":
        found += [
            against(name, tensor) for name, tensor in _updates(model, tensors["input"]).items() if name in tensors
        ]
    if "plain_attention_output" in tensors:
        found.append(against("plain_attention_output", _plain(case, tensors)))
    if "loss_weights" in tensors:
        (output * tensors["loss_weights"]).sum().backward()
        found += _gradients(case, model, tensors, tolerance)
    compared = {one.name for one in found} | {"input", "loss_weights"}
    found += [against(name, None) for name in tensors if name not in compared and not name.startswith("weights/")]
    chosen = trainable(model)
    if "trainable" in case:
        found.append(_equal("trainable", sorted(chosen), sorted(case["trainable"])))
    if "trainable_params" in case:
        found.append(_equal("trainable_params", _count(chosen.values()), case["trainable_params"]))
    return found


def _loaded(model: nn.Module, weights: dict[str, Tensor], case: str) -> nn.Module:
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights of case {case} do not fit its network: {error}") from error
    return model.eval()


def _updates(model: Attention, x: Tensor) -> dict[str, Tensor]:
    """Return what is added to queries and values, and the matrices behind it."""
    updates = model.deltas(x)
    assert updates is not None
    fast = model.q_proj_adapter1_left @ model.q_proj_adapter1_right
    slow = [getattr(model, f"phm_rule{k}_left") @ getattr(model, f"phm_rule{k}_right") for k in (1, 2)]
    query, value = (kronecker_products(rule, fast).sum(0) for rule in slow)
    return {"q_delta": updates[0], "v_delta": updates[1], "delta_w_q": query, "delta_w_v": value}


def _plain(case: Case, tensors: dict[str, Tensor]) -> Tensor:
    """The same attention without any adapter."""
    plain = Attention(case["embed_dim"], case["num_heads"], "adapter")
    weights = weights_of(tensors)
    _loaded(plain, {name: weights[name] for name in plain.state_dict()}, case["name"])
    out: Tensor = plain(tensors["input"])
    return out


def _gradients(case: Case, model: nn.Module, tensors: dict[str, Tensor], tolerance: _Tolerance) -> list[Comparison]:
    found = []
    for name, expected in tensors.items():
        if name.startswith("grad/"):
            atol = max(tolerance.atol, GRADIENT_ATOL * float(expected.abs().max()))
            found.append(
                compare(name, model.get_parameter(name.removeprefix("grad/")).grad, expected, atol, tolerance.rtol)
            )
    for name in case.get("params_without_grad", ()):
        found.append(_equal(f"grad/{name}", model.get_parameter(name).grad is None, True))
    return found


def _check_counts(counts: dict[str, Any]) -> list[Comparison]:
    """Parameters of CLIP ViT-B/32 with each method, counted without memory for them."""
    published = {name: counts[name] for name in get_args(Method) if name in counts}
    if "kadaptation_trainable" in counts.get("vit_b32", {}):
        published["kadaptation"] = counts["vit_b32"]["kadaptation_trainable"]
    found = []
    for method, number in published.items():
        with torch.device("meta"):
            model = VisionTransformer(EncoderConfig(**VIT_B32, method=method))
        found.append(_equal(f"ViT-B/32 {method} parameters", _count(trainable(model).values()), number))
        if method == "kadaptation" and "visual_total" in counts.get("vit_b32", {}):
            total = _count(model.parameters())
            found.append(_equal("ViT-B/32 total parameters", total, counts["vit_b32"]["visual_total"]))
    return found


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _equal(name: str, actual: Any, expected: Any) -> Comparison:
    same = actual == expected
    note = f"{actual:,}" if type(actual) is int else ""
    return Comparison(name, 0.0 if same else 1.0, 0.0, 0.0, same, note if same else f"{actual} != {expected}")
