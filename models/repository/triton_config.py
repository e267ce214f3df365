"""Triton's ``config.pbtxt`` from a card: generated, never edited.

One file is right for every server. On GPUs the native ONNX Runtime backend runs the model there, with the options
below; ``KIND_AUTO`` means a processor where there is no GPU. A server without the native backend, such as the one of
PyPI, finds one of the same name in Python (``sightline.triton.model``), which knows the same parameters.

Priorities, time limits and lengths of queues are the gateway's: naming any of them here makes tritonserver 2.51 hold
requests back for half a second (measured: p95 503 ms at 8 clients, against 8 ms without).
"""

from __future__ import annotations

import json

from models.catalog.card import Card, TensorSpec

THREADS = "intra_op_thread_count"
"""The parameter of the native backend; the one in Python reads it, too."""

WORKSPACE_BYTES = 1 << 30
"""Memory that TensorRT may use to choose its kernels."""


def config_pbtxt(card: Card) -> str:
    """The configuration that makes Triton serve ``card``'s ``model.onnx`` under the same signature and batch limit.

    The latest version is served, as in the embedded runtime, and batching never waits unless the card says so.
    """
    batched = is_batched(card)
    lines = [
        "# Generated from card.json; edits are lost.",
        f'name: "{card.name}"',
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        "version_policy { latest { num_versions: 1 } }",
        f"max_batch_size: {card.batching.max_batch_size if batched else 0}",
        f"instance_group [{{ kind: KIND_AUTO, count: {card.engine.instances} }}]",
    ]
    lines += [_tensor("input", spec, batched) for spec in card.inputs]
    lines += [_tensor("output", spec, batched) for spec in card.outputs]
    if batched and card.batching.max_batch_size > 1:
        delay = card.batching.max_delay_us
        lines.append(
            f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}" if delay else "dynamic_batching {}"
        )

    lines += _parameters(card)
    lines += _accelerators(card)
    lines += _warm_up(card, batched)
    return "\n".join(lines) + "\n"


def is_batched(card: Card) -> bool:
    """Return whether every tensor has a free first axis, along which requests can join."""
    return bool(card.inputs) and all(spec.shape[:1] == (-1,) for spec in (*card.inputs, *card.outputs))


def _tensor(kind: str, spec: TensorSpec, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    dims = ", ".join(map(str, shape or (1,)))
    reshape = "" if shape else ", reshape { shape: [] }"
    return f"{kind} [{{ name: {_text(spec.name)}, data_type: {_datatype(spec)}, dims: [ {dims} ]{reshape} }}]"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _datatype(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"


def _parameters(card: Card) -> list[str]:
    """Threads on processors; without the parameter the engine chooses."""
    threads = card.engine.intra_op_threads
    return [f'parameters {{ key: "{THREADS}" value {{ string_value: "{threads}" }} }}'] if threads else []


def _accelerators(card: Card) -> list[str]:
    """Return what is read on a GPU only. TensorRT where the card asks for it: it builds an engine at load, in minutes.

    CUDA's own default is to try every algorithm for a convolution again at each new batch size, which takes seconds.
    """
    chosen = [_accelerator("cuda", {"cudnn_conv_algo_search": "HEURISTIC"})]
    if card.engine.gpu == "tensorrt":
        options = {
            "precision_mode": "FP16" if card.engine.precision == "fp16" else "FP32",
            "max_workspace_size_bytes": str(WORKSPACE_BYTES),
            "trt_engine_cache_enable": "true",
            "trt_engine_cache_path": f"/tmp/tensorrt-{card.name}-{card.version}",  # noqa: S108 the container's own
        }
        chosen.insert(0, _accelerator("tensorrt", options))

    return [f"optimization {{ execution_accelerators {{ gpu_execution_accelerator [{', '.join(chosen)}] }} }}"]


def _accelerator(name: str, options: dict[str, str]) -> str:
    told = " ".join(f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in options.items())
    return f'{{ name: "{name}" {told} }}'


def _warm_up(card: Card, batched: bool) -> list[str]:
    """One row of zeros, and for TensorRT the largest batch; nothing for a model whose free sizes cannot be known."""
    shapes = {spec.name: known_shape(card, spec, batched) for spec in card.inputs}
    if not card.inputs or any(shape is None for shape in shapes.values()):
        return []
    sizes = [1]
    if batched and card.engine.gpu == "tensorrt" and card.batching.max_batch_size > 1:
        sizes.append(card.batching.max_batch_size)
    return [_sample(card, shapes, rows if batched else 0) for rows in sizes]


def _sample(card: Card, shapes: dict[str, tuple[int, ...] | None], rows: int) -> str:
    inputs = []
    for spec in card.inputs:
        dims = ", ".join(map(str, shapes[spec.name] or (1,)))
        zeros = f"data_type: {_datatype(spec)}, dims: [ {dims} ], zero_data: true"
        inputs.append(f"inputs {{ key: {_text(spec.name)} value {{ {zeros} }} }}")
    return f'model_warmup [{{ name: "zeros-{rows or 1}", batch_size: {rows} {" ".join(inputs)} }}]'


def known_shape(card: Card, spec: TensorSpec, batched: bool) -> tuple[int, ...] | None:
    """The sizes of an input, its batch axis left out, free ones as the card's preprocessing makes them.

    ``None`` for a size that nobody can know.
    """
    free: int | None = None
    if card.image is not None and spec.name == card.image.input:
        free = card.image.side
    elif card.text is not None and spec.name in (card.text.ids_input, card.text.mask_input):
        free = card.text.max_length if card.text.padding == "max" else min(16, card.text.max_length)

    sizes: list[int] = []
    for size in spec.shape[1:] if batched else spec.shape:
        if size == -1 and free is None:
            return None
        sizes.append(free if size == -1 and free is not None else size)

    return tuple(sizes)
