"""NVIDIA's own clients, unchanged, against real gateway processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from services.settings import Settings
from tests.support import tiny_models
from tests.support.server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    settings = Settings(data_dir=folder / "data", log_level="warning")
    tiny_models.add_all(settings.models_dir)
    with serving(settings, folder) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        yield client


def filled(name: str, array: np.ndarray, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def adding(rows: int = 2, *, binary: bool = True) -> tuple[list[triton.InferInput], np.ndarray]:
    a = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    return [filled("a", a, binary=binary), filled("b", a, binary=binary)], 2 * a


def test_health_metadata_and_configuration(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny-adder")
    assert client.is_model_ready("tiny-adder", "1")
    assert not client.is_model_ready("tiny-adder", "2")
    assert not client.is_model_ready("nothing")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("tiny-adder")["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_config("tiny-adder", "1")["max_batch_size"] == 8


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_inference(client: triton.InferenceServerClient, binary_in: bool, binary_out: bool | None) -> None:
    inputs, expected = adding(binary=binary_in)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("sum", binary_data=binary_out)]
    result = client.infer("tiny-adder", inputs, model_version="1", outputs=outputs, request_id="r-1", priority=1)
    np.testing.assert_array_equal(result.as_numpy("sum"), expected)
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("asked", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, asked: str) -> None:
    inputs, expected = adding(rows=5000)
    result = client.infer(
        "tiny-adder", inputs, request_compression_algorithm=asked, response_compression_algorithm=asked
    )
    np.testing.assert_array_equal(result.as_numpy("sum"), expected)


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype(client: triton.InferenceServerClient, binary: bool) -> None:
    inputs, arrays = [], {}
    for spec in client.get_model_metadata("tiny-echo")["inputs"]:
        datatype = spec["datatype"]
        texts = np.array([[b"", "é".encode(), b"a,b"]], object)
        array = texts if datatype == "BYTES" else np.eye(1, 3).astype(triton_to_np_dtype(datatype))
        arrays[spec["name"]] = array
        # The official client refuses FP16 in JSON.
        inputs.append(filled(spec["name"], array, datatype, binary=binary or datatype == "FP16"))
    outputs = [triton.InferRequestedOutput(name.replace("in_", "out_"), binary_data=binary) for name in arrays]
    result = client.infer("tiny-echo", inputs, outputs=outputs)
    for name, sent in arrays.items():
        got = result.as_numpy(name.replace("in_", "out_"))
        if sent.dtype == object:  # JSON gives texts back, the binary form bytes
            got = np.array([[one if isinstance(one, bytes) else one.encode() for one in got[0]]], object)
        np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: triton.InferenceServerClient, binary: bool) -> None:
    image = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    outputs = [triton.InferRequestedOutput("logits", binary_data=binary, class_count=3)]
    result = client.infer("tiny-classifier", [filled("image", image)], outputs=outputs)
    classes = result.as_numpy("logits")
    assert classes.shape == (2, 3)
    value, index, label = (classes[0, 0].decode() if binary else str(classes[0, 0])).split(":")
    assert label == tiny_models.LABELS[int(index)]
    assert float(value) > 0


def test_requests_in_parallel(client: triton.InferenceServerClient) -> None:
    inputs, expected = adding()
    pending = [client.async_infer("tiny-adder", inputs) for _ in range(16)]
    for one in pending:
        np.testing.assert_array_equal(one.get_result().as_numpy("sum"), expected)
    stats = client.get_inference_statistics("tiny-adder")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 16


def test_errors_arrive_as_the_clients_own_exception(client: triton.InferenceServerClient) -> None:
    inputs, _ = adding()
    with pytest.raises(InferenceServerException, match="no model 'nothing'") as caught:
        client.infer("nothing", inputs)
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="'b' was not sent") as caught:
        client.infer("tiny-adder", inputs[:1])
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="not supported") as caught:
        client.load_model("tiny-adder", config="{}", files={"file:1/model.onnx": b"x"})
    for call in (client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings):
        with pytest.raises(InferenceServerException, match="does not have") as caught:
            call()
        assert caught.value.status() == "501"


def test_repository_control(client: triton.InferenceServerClient) -> None:
    index = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert index == dict.fromkeys(("tiny-adder", "tiny-classifier", "tiny-echo", "tiny-text"), "READY")
    client.unload_model("tiny-text")
    assert not client.is_model_ready("tiny-text")
    client.load_model("tiny-text")
    assert client.is_model_ready("tiny-text")


async def test_asyncio_client(server: Server) -> None:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert await client.is_server_ready()
        assert (await client.get_server_metadata())["name"] == "sightline"
        inputs, expected = adding()
        results = await asyncio.gather(
            *(client.infer("tiny-adder", inputs, request_compression_algorithm="gzip") for _ in range(8))
        )
        for result in results:
            np.testing.assert_array_equal(result.as_numpy("sum"), expected)
        with pytest.raises(InferenceServerException):
            await client.infer("tiny-adder", inputs[:1])


@pytest.mark.slow
def test_new_versions_under_traffic_over_two_processes_fail_no_request(settings: Settings, tmp_path: Path) -> None:
    tiny_models.add_adder(settings.models_dir, offset=1)
    settings = settings.model_copy(update={"workers": 2})
    body = {
        "inputs": [{"name": name, "datatype": "FP32", "shape": [1, 4], "data": [0] * 4} for name in "ab"],
    }
    seen: set[str] = set()
    failures: list[str] = []
    stop = threading.Event()

    def client() -> None:
        with httpx.Client(timeout=30) as http:
            while not stop.is_set():
                response = http.post(f"{server.url}/v2/models/tiny-adder/infer", json=body)
                answer = response.json()
                if response.status_code != 200 or answer["outputs"][0]["data"][0] != float(answer["model_version"]):
                    failures.append(response.text)
                    return
                seen.add(answer["model_version"])

    with serving(settings, tmp_path, workers=2) as server:
        time.sleep(1)  # the second process listens, too
        clients = [threading.Thread(target=client) for _ in range(4)]
        for thread in clients:
            thread.start()
        for version in ("2", "3", "4"):
            tiny_models.add_adder(settings.models_dir, version=version, offset=int(version))
            response = httpx.post(f"{server.url}/v2/repository/models/tiny-adder/load", timeout=30)
            assert response.status_code == 200, response.text
            time.sleep(0.3)
        for _ in range(20):  # whichever process a new connection reaches
            answer = httpx.post(f"{server.url}/v2/models/tiny-adder/versions/4/infer", json=body)
            assert answer.status_code == 200, answer.text
        stop.set()
        for thread in clients:
            thread.join()
        httpx.post(f"{server.url}/v2/repository/models/tiny-adder/unload", timeout=30)
        statuses = {httpx.get(f"{server.url}/v2/models/tiny-adder/ready").status_code for _ in range(20)}
        assert statuses == {400}
    assert not failures
    assert seen >= {"1", "2", "3", "4"}
