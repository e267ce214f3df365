"""The answer to an inference: JSON, with the tensors in it or as raw bytes behind it, or the best classes as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi.responses import Response
from numpy.typing import NDArray

from gateway.oip.elements import datatype_of, to_bytes, to_json, wrong
from gateway.oip.infer_request import InferRequest, Wanted
from services.runtime.protocol import Inference

HEADER_LENGTH = "Inference-Header-Content-Length"


def respond(request: InferRequest, model: str, answer: Inference, labels: Mapping[str, Sequence[str]]) -> Response:
    """The response to ``request``; ``labels`` by output name the classes of those that are asked for as classes."""
    wanted = request.outputs or tuple(Wanted(name) for name in answer.outputs)
    outputs: list[dict[str, Any]] = []
    raw: list[bytes | memoryview] = []
    for want in wanted:
        array = answer.outputs[want.name]
        if want.classes:
            array = classified(array, want.classes, labels.get(want.name, ()), want.name)
        entry: dict[str, Any] = {"name": want.name, "datatype": datatype_of(array), "shape": array.shape}
        if request.binary if want.binary is None else want.binary:
            data = to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            raw.append(data)
        else:
            entry["data"] = to_json(array, want.name)
        outputs.append(entry)

    document: dict[str, Any] = {"model_name": model, "model_version": answer.version}
    if request.id:
        document["id"] = request.id

    document["outputs"] = outputs
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return Response(head, media_type="application/json")

    headers = {HEADER_LENGTH: str(len(head))}
    return Response(b"".join([head, *raw]), headers=headers, media_type="application/octet-stream")


def classified(scores: NDArray[Any], count: int, labels: Sequence[str], name: str) -> NDArray[Any]:
    """The ``count`` best of each row as ``value:index`` or ``value:index:label``; ``(B, count)`` texts, best first.

    Triton's classification extension: values as C++ writes them (six decimals), ties by index.
    """
    if scores.dtype.kind == "O" or scores.ndim < 1:
        raise wrong(name, "tensor-type", "It holds no scores to rank.", "Ask for it without `classification`.")

    rows = scores.reshape(len(scores), -1) if scores.ndim > 1 else scores.reshape(1, -1)
    count = min(count, rows.shape[1])
    order = np.nan_to_num(rows, nan=-np.inf) if rows.dtype.kind == "f" else rows
    # The sign of an unsigned number cannot be turned: rank the reversed row upwards, which also keeps ties in order.
    ranked = rows.shape[1] - 1 - np.argsort(order[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    texts = np.empty(ranked.shape, object)
    form = "{:.6f}:{}" if scores.dtype.kind == "f" else "{:d}:{}"
    for row, best in enumerate(ranked.tolist()):
        for rank, index in enumerate(best):
            text = form.format(rows[row, index].item(), index)
            texts[row, rank] = (f"{text}:{labels[index]}" if index < len(labels) else text).encode()

    return texts
