"""A real tritonserver over the platform's repository: every form of model, the same answers, the same refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as client
from tritonclient.utils import InferenceServerException

from models.catalog.card import Card
from services.runtime.onnx.session import open_session
from services.runtime.protocol import Tensor
from services.settings import Settings
from sightline.triton.api import Api
from tests.support import tiny_models
from tests.support.triton_server import TritonServer

pytestmark = pytest.mark.timeout(120)


def infer(
    server: TritonServer, card: Card, inputs: Mapping[str, Tensor], version: str = "", outputs: list[str] | None = None
) -> dict[str, Any]:
    datatypes = {spec.name: spec.datatype for spec in card.inputs}
    sent = []
    for name, array in inputs.items():
        one = client.InferInput(name, array.shape, datatypes[name])
        one.set_data_from_numpy(array)
        sent.append(one)
    wanted = None if outputs is None else [client.InferRequestedOutput(name) for name in outputs]
    with client.InferenceServerClient(server.grpc) as connection:
        answer = connection.infer(card.name, sent, version, outputs=wanted, client_timeout=20)
    return {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}


def card_of(root: Path, name: str, version: str = "1") -> Card:
    return Card.read(root / name / version)


def made_up(card: Card, rows: int = 3) -> dict[str, Tensor]:
    """Values that every tiny model can compute with."""
    rng = np.random.default_rng(7)
    made: dict[str, Tensor] = {}
    for spec in card.inputs:
        free = iter([rows, 5, 5, 5])
        shape = [next(free) if size == -1 else size for size in spec.shape]
        values = rng.integers(0, 2, shape)
        if spec.datatype == "BYTES":
            made[spec.name] = np.array([["a", "é", ""][value].encode() for value in values.flat], object).reshape(shape)
            continue
        kind = {"FP16": "f2", "FP32": "f4", "FP64": "f8", "BOOL": "?"}.get(spec.datatype, spec.datatype.lower())
        made[spec.name] = (values + (rng.random(shape) if "FP" in spec.datatype else 0)).astype(kind)
        if spec.name == "attention_mask":
            made[spec.name][:] = 1
    return made


def test_everything_with_weights_is_served_and_nothing_else(triton_server: TritonServer) -> None:
    states = triton_server.states()
    assert set(states.values()) == {"READY"}
    assert {name.partition("/")[0] for name in states} == {
        "tiny-adder",
        "tiny-classifier",
        "tiny-echo",
        "tiny-fixed",
        "tiny-row",
        "tiny-text",
        "tiny-versions",
    }
    assert "tiny-versions/2" in states and "tiny-versions/1" not in states


@pytest.mark.parametrize("name", ["tiny-adder", "tiny-classifier", "tiny-echo", "tiny-text", "tiny-fixed", "tiny-row"])
def test_answers_are_those_of_the_embedded_engine(
    triton_server: TritonServer, triton_repository: Path, name: str
) -> None:
    card = card_of(triton_repository, name)
    inputs = made_up(card)
    session = open_session(triton_repository / name / "1", card, Settings())
    expected = session.infer(inputs, [spec.name for spec in card.outputs])
    # On the wire, Triton wants an axis where rows have none.
    sent = {key: array[:, None] if array.ndim == 1 else array for key, array in inputs.items()}
    found = infer(triton_server, card, sent)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].shape == array.shape and found[key].dtype == array.dtype, key
        if array.dtype == object or array.dtype == bool:
            assert np.array_equal(found[key], array), key
        else:
            np.testing.assert_allclose(found[key], array, rtol=0, atol=1e-5, err_msg=key)


def test_an_output_can_be_had_alone(triton_server: TritonServer, triton_repository: Path) -> None:
    card = card_of(triton_repository, "tiny-classifier")
    assert infer(triton_server, card, made_up(card), outputs=["features"]).keys() == {"features"}


def test_any_length_of_text_is_taken(triton_server: TritonServer, triton_repository: Path) -> None:
    card = card_of(triton_repository, "tiny-text")
    for length in (1, 9, 33):
        tokens = np.ones((2, length), np.int64)
        found = infer(triton_server, card, {"input_ids": tokens, "attention_mask": tokens})
        assert found["embedding"].shape == (2, tiny_models.TEXT_DIM)


def test_what_the_engine_refuses_is_the_clients_and_is_said(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    card = card_of(triton_repository, "tiny-text")
    tokens = np.full((1, 4), 10**6, np.int64)
    with pytest.raises(InferenceServerException) as refused:
        infer(triton_server, card, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "out of data bounds" in str(refused.value) and "/" not in str(refused.value)


def test_a_bad_request_does_not_fail_those_that_ran_with_it(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    card = card_of(triton_repository, "tiny-text")
    mask = np.ones((1, 4), np.int64)

    def ask(number: int) -> str:
        bad = number % 4 == 0
        try:
            infer(triton_server, card, {"input_ids": mask * (10**6 if bad else 3), "attention_mask": mask})
        except InferenceServerException as error:
            return "refused" if error.status() == "StatusCode.INVALID_ARGUMENT" else str(error)
        return "answered"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert answers == ["refused" if number % 4 == 0 else "answered" for number in range(64)]


def test_requests_run_together(triton_server: TritonServer, triton_repository: Path) -> None:
    card = card_of(triton_repository, "tiny-classifier")
    inputs = made_up(card, rows=1)

    def counts() -> tuple[int, int]:
        stats = httpx.get(f"{triton_server.url}/v2/models/tiny-classifier/stats").json()["model_stats"][0]
        return int(stats["inference_count"]), int(stats["execution_count"])

    before = counts()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: infer(triton_server, card, inputs), range(200)))
    after = counts()
    assert after[0] - before[0] == 200
    assert after[1] - before[1] < 150


def test_more_rows_than_the_card_allows_are_refused(triton_server: TritonServer, triton_repository: Path) -> None:
    card = card_of(triton_repository, "tiny-adder")
    with pytest.raises(InferenceServerException, match="must be <= 8"):
        infer(triton_server, card, made_up(card, rows=9))


def test_older_versions_are_served_when_a_policy_says_so(triton_server: TritonServer, triton_repository: Path) -> None:
    def offsets() -> dict[str, float]:
        found = {}
        for version in ("1", "2"):
            card = card_of(triton_repository, "tiny-versions", version)
            try:
                zeros = np.zeros((1, 4), np.float32)
                found[version] = float(infer(triton_server, card, {"a": zeros, "b": zeros}, version)["sum"][0, 0])
            except InferenceServerException:
                continue
        return found

    async def load(policy: dict[str, Any] | None) -> None:
        api = Api(triton_server.url, 5)
        config = None if policy is None else {**await api.config("tiny-versions"), "version_policy": policy}
        assert await api.load("tiny-versions", config) == ""
        await api.close()

    assert offsets() == {"2": 2.0}
    asyncio.run(load({"all": {}}))
    try:
        assert offsets() == {"1": 1.0, "2": 2.0}
    finally:
        asyncio.run(load(None))


def test_a_new_version_is_loaded_from_the_same_repository(triton_server: TritonServer, triton_repository: Path) -> None:
    tiny_models.add_adder(triton_repository, "tiny-late", offset=5)
    answer = httpx.post(f"{triton_server.url}/v2/repository/models/tiny-late/load", json={}, timeout=30)
    assert answer.status_code == 200, answer.text
    zeros = np.zeros((1, 4), np.float32)
    card = card_of(triton_repository, "tiny-late")
    assert infer(triton_server, card, {"a": zeros, "b": zeros})["sum"][0, 0] == 5.0
    httpx.post(f"{triton_server.url}/v2/repository/models/tiny-late/unload", json={})


def test_a_file_that_the_engine_refuses_is_not_loaded_and_the_reason_is_given(
    triton_server: TritonServer, triton_repository: Path
) -> None:
    card = tiny_models.card("tiny-broken", tiny_models.adder())
    tiny_models.write(triton_repository, card, {"model.onnx": b"not a network"})
    answer = httpx.post(f"{triton_server.url}/v2/repository/models/tiny-broken/load", json={}, timeout=30)
    assert answer.status_code == 400
    states = httpx.post(f"{triton_server.url}/v2/repository/index").json()
    (reason,) = [one["reason"] for one in states if one["name"] == "tiny-broken"]
    assert "ONNX Runtime refuses it" in reason
    httpx.post(f"{triton_server.url}/v2/repository/models/tiny-broken/unload", json={})


def test_metrics_are_those_that_dashboards_ask_for(triton_server: TritonServer) -> None:
    from tests.support.exported import TRITON

    text = httpx.get(triton_server.metrics).text
    there = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert there >= TRITON, json.dumps(sorted(TRITON - there))
