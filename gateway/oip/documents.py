"""What the protocol says about the server and its models: metadata, Triton's configuration, statistics, the index."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from gateway.openapi import METADATA
from models.catalog.card import Card, TensorSpec
from models.catalog.labels import LabelError, label_set, read_labels
from services.runtime.protocol import ModelStatus, Statistics

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""What is served beyond the protocol's core; clients look here before they use it."""

_ENGINES = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino", "torch": "torch"}


def server() -> dict[str, Any]:
    return {"name": "sightline", "version": METADATA["version"], "extensions": list(EXTENSIONS)}


def metadata(card: Card, versions: list[str]) -> dict[str, Any]:
    """``versions`` are those that are ready."""
    return {
        "name": card.name,
        "versions": versions,
        "platform": _platform(card),
        "inputs": [_tensor(spec) for spec in card.inputs],
        "outputs": [_tensor(spec) for spec in card.outputs],
    }


def config(card: Card) -> dict[str, Any]:
    """The model's configuration in the JSON form of Triton's ``ModelConfig``: dims without the batch axis."""
    batched = _is_batched(card)
    batching = card.batching
    document: dict[str, Any] = {
        "name": card.name,
        "platform": _platform(card),
        "backend": "ensemble" if card.pipeline is not None else card.engine.name,
        "max_batch_size": batching.max_batch_size if batched else 0,
        "input": [_config_tensor(spec, batched) for spec in card.inputs],
        "output": [_config_output(spec, batched, card) for spec in card.outputs],
        "default_model_filename": "" if card.pipeline is not None else "model.onnx",
    }
    if batched and batching.max_batch_size > 1:
        document["dynamic_batching"] = {
            "max_queue_delay_microseconds": batching.max_delay_us,
            "default_queue_policy": {"max_queue_size": batching.max_queue, "timeout_action": "REJECT"},
        }

    return document


def statistics(card: Card, counted: Statistics) -> dict[str, Any]:
    """Triton's ``model_stats`` entry. Joining and copying rows is part of ``compute_infer`` in embedded engines."""
    requests = counted.success_count
    nothing = {"count": 0, "ns": 0}
    return {
        "name": card.name,
        "version": card.version,
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": {
            "success": {"count": requests, "ns": counted.success_ns},
            "fail": {"count": counted.fail_count, "ns": counted.fail_ns},
            "queue": {"count": requests, "ns": counted.queue_ns},
            "compute_input": {"count": requests, "ns": counted.input_ns},
            "compute_infer": {"count": requests, "ns": counted.infer_ns},
            "compute_output": {"count": requests, "ns": counted.output_ns},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": count, "ns": 0},
                "compute_infer": {"count": count, "ns": counted.batch_ns.get(size, 0)},
                "compute_output": {"count": count, "ns": 0},
            }
            for size, count in sorted(counted.batch_counts.items())
        ],
        "memory_usage": [],
    }


def index_entry(status: ModelStatus) -> dict[str, str]:
    return {"name": status.name, "version": status.version, "state": status.state, "reason": status.reason}


def labels(card: Card, folder: Path) -> tuple[str, ...]:
    """The names of a model's classes; empty when it has none."""
    if card.label_set is None:
        return ()
    # The hash makes it a new entry when another file takes the place of this one.
    return _labels(folder, card.label_set, card.files.get(card.label_set, ""))


@lru_cache(maxsize=64)
def _labels(folder: Path, name: str, sha256: str) -> tuple[str, ...]:
    try:
        return read_labels(folder / name) if sha256 else label_set(name)
    except LabelError:
        return ()


def _is_batched(card: Card) -> bool:
    return bool(card.inputs) and all(spec.shape[:1] == (-1,) for spec in (*card.inputs, *card.outputs))


def _platform(card: Card) -> str:
    return "ensemble" if card.pipeline is not None else _ENGINES[card.engine.name]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[1:] if batched else spec.shape)}


def _config_output(spec: TensorSpec, batched: bool, card: Card) -> dict[str, Any]:
    named = spec.name == card.logits and card.label_set is not None
    return {**_config_tensor(spec, batched), "label_filename": card.label_set if named else ""}
