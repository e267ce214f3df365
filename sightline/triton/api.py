"""What a watchdog asks of a tritonserver, over HTTP: its index, its counters, tiny inferences, load and unload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from models.catalog.card import Card
from models.repository.triton_config import is_batched
from services.runtime.onnx.warmup import example
from services.runtime.protocol import Tensor

LOAD_SECONDS = 600.0
"""A load answers when it is done."""


class Unanswered(Exception):
    """The server cannot be reached, or says nothing in time. ``hangs``: it took the connection, and no more."""

    def __init__(self, reason: str, *, hangs: bool) -> None:
        super().__init__(reason)
        self.hangs = hangs


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the index of the repository."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one tiny inference. ``known`` is false for a model that was unloaded in the meantime."""

    healthy: bool
    reason: str = ""
    known: bool = True

    @property
    def dead(self) -> bool:
        """Whether Triton itself says that the process of the model is gone; it will not come back by itself."""
        return not self.healthy and "is not healthy" in self.reason


class Api:
    """One server, from one event loop. Raises :class:`Unanswered`."""

    def __init__(self, url: str, timeout: float) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def live(self) -> None:
        """Return if it lives."""
        answer = await self._ask("GET", "/v2/health/live")
        if answer.status_code != 200:
            raise Unanswered(f"status {answer.status_code}", hangs=False)

    async def index(self) -> list[Entry]:
        """Every version that was ever loaded; folders that Triton cannot serve have no version and are left out."""
        found = await self._read("POST", "/v2/repository/index")
        return [
            Entry(one["name"], one["version"], one.get("state", ""), one.get("reason", ""))
            for one in found
            if one.get("version")
        ]

    async def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Inferences that succeeded and failed since load, by model and version."""
        found = (await self._read("GET", "/v2/models/stats")).get("model_stats", [])
        return {
            (one["name"], one["version"]): (
                int(one["inference_stats"]["success"]["count"]),
                int(one["inference_stats"]["fail"]["count"]),
            )
            for one in found
        }

    async def probe(self, card: Card) -> Probe:
        """One row of zeros through a version. A refusal of the zeros themselves is a sign of life."""
        header, body = encoded(example(card, 1), card)
        answer = await self._ask(
            "POST",
            f"/v2/models/{card.name}/versions/{card.version}/infer",
            content=header + body,
            headers={"Inference-Header-Content-Length": str(len(header))},
        )
        if answer.status_code == 200:
            return Probe(True)
        reason = _reason(answer)
        known = "unknown model" not in reason and "not found" not in reason
        return Probe(answer.status_code == 400 and known, reason, known)

    async def config(self, model: str) -> dict[str, Any]:
        """The configuration that a model is served with."""
        found: dict[str, Any] = await self._read("GET", f"/v2/models/{model}/config")
        return found

    async def load(self, model: str, config: Mapping[str, Any] | None = None) -> str:
        """Load a model, under ``config`` instead of its file's if given; why not, or nothing."""
        body = {} if config is None else {"parameters": {"config": json.dumps(config)}}
        answer = await self._ask("POST", f"/v2/repository/models/{model}/load", json=body, timeout=LOAD_SECONDS)
        return "" if answer.status_code == 200 else _reason(answer)

    async def unload(self, model: str) -> str:
        """Begin to unload a model: it answers at once, and the index shows when it is done; why not, or nothing."""
        answer = await self._ask("POST", f"/v2/repository/models/{model}/unload")
        return "" if answer.status_code == 200 else _reason(answer)

    async def _read(self, method: str, path: str) -> Any:
        """The document that a question is answered with."""
        answer = await self._ask(method, path)
        if answer.status_code != 200:
            raise Unanswered(_reason(answer), hangs=False)
        return answer.json()

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            hangs = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
            raise Unanswered(str(error) or type(error).__name__, hangs=hangs) from error


def encoded(inputs: Mapping[str, Tensor], card: Card) -> tuple[bytes, bytes]:
    """A request in the protocol's binary form: its JSON header and the tensors behind it."""
    datatypes = {spec.name: spec.datatype for spec in card.inputs}
    described, blobs = [], []
    for name, array in inputs.items():
        blob = _texts(array) if datatypes[name] == "BYTES" else np.ascontiguousarray(array).tobytes()
        # Triton knows no rows without an axis: see the reshape in config.pbtxt.
        shape = [*array.shape, 1] if is_batched(card) and array.ndim == 1 else list(array.shape)
        parameters = {"binary_data_size": len(blob)}
        described.append({"name": name, "shape": shape, "datatype": datatypes[name], "parameters": parameters})
        blobs.append(blob)
    document = {"inputs": described, "parameters": {"binary_data_output": True}}
    return json.dumps(document).encode(), b"".join(blobs)


def _texts(array: Tensor) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in array.flat)


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:400]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
