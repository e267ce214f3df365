"""Triton's ``config.pbtxt`` from a card: generated, never edited."""

from __future__ import annotations

from models.catalog.card import Card, TensorSpec


def config_pbtxt(card: Card) -> str:
    """The configuration that makes Triton serve ``card``'s ``model.onnx`` under the same signature and batch limit.

    The latest version is served, as in the embedded runtime, and batching never waits unless the card says so.
    """
    batched = bool(card.inputs) and all(spec.shape[:1] == (-1,) for spec in (*card.inputs, *card.outputs))
    lines = [
        "# Generated from card.json; edits are lost.",
        f'name: "{card.name}"',
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {card.batching.max_batch_size if batched else 0}",
    ]
    lines += [_tensor("input", spec, batched) for spec in card.inputs]
    lines += [_tensor("output", spec, batched) for spec in card.outputs]
    if batched and card.batching.max_batch_size > 1:
        delay = card.batching.max_delay_us
        lines.append(
            f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}" if delay else "dynamic_batching {}"
        )
    return "\n".join(lines) + "\n"


def _tensor(kind: str, spec: TensorSpec, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    datatype = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    dims = ", ".join(map(str, shape or (1,)))
    reshape = "" if shape else ", reshape { shape: [] }"
    return f'{kind} [{{ name: "{spec.name}", data_type: {datatype}, dims: [ {dims} ]{reshape} }}]'
