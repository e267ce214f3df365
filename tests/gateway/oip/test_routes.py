"""The Open Inference Protocol, request by request: what is answered, and each thing that is refused and how."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import pytest_asyncio

from gateway.app import create_app
from models.catalog.card import Batching, Pipeline
from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support import asgi, tiny_models

INFER = "/v2/models/tiny-adder/infer"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """One application for the tests that leave it as it is."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("oip"), log_level="warning")
    tiny_models.add_all(settings.models_dir)
    async with asgi.client(create_app(settings)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def own(settings: Settings, repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An application of the test's own."""
    async with asgi.client(create_app(settings)) as client:
        yield client


def tensor(name: str, data: object, datatype: str = "FP32", shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [1, 4], "data": data}


def body(**changes: object) -> dict[str, Any]:
    return {"inputs": [tensor("a", [1, 2, 3, 4]), tensor("b", [10, 20, 30, 40])], **changes}


def binary(rows: int = 1, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """A binary request to add ``a`` and ``b``, and its headers."""
    a = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [rows, 4], "parameters": {"binary_data_size": a.nbytes}}
        for name in "ab"
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}, **changes})
    return head + a.tobytes() * 2, {"Inference-Header-Content-Length": str(len(head))}


def read_binary(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    length = int(response.headers["Inference-Header-Content-Length"])
    return orjson.loads(response.content[:length]), response.content[length:]


# Answers


async def test_server_says_what_it_is(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/health/live")).json() == {"live": True}
    assert (await http.get("/v2/health/ready")).json() == {"ready": True}
    server = (await http.get("/v2")).json()
    assert server["name"] == "sightline"
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(server["extensions"])


async def test_server_is_not_ready_while_it_drains(settings: Settings, repository: Path) -> None:
    app = create_app(settings)
    async with asgi.client(app) as http:
        app.state.context.lifecycle.draining = True
        response = await http.get("/v2/health/ready")
        assert (response.status_code, response.json()) == (503, {"ready": False})
        assert (await http.get("/v2/health/live")).status_code == 200


async def test_model_documents(http: httpx.AsyncClient) -> None:
    for prefix in ("/v2/models/tiny-classifier", "/v2/models/tiny-classifier/versions/1"):
        assert (await http.get(prefix)).json() == {
            "name": "tiny-classifier",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}],
            "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [-1, 5]},
                {"name": "features", "datatype": "FP32", "shape": [-1, 8]},
            ],
        }
        assert (await http.get(f"{prefix}/ready")).json() == {"name": "tiny-classifier", "ready": True}
        config = (await http.get(f"{prefix}/config")).json()
        assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}]
        assert config["output"][0]["label_filename"] == "labels.txt"
        assert config["max_batch_size"] == 16


async def test_json_inference(http: httpx.AsyncClient) -> None:
    response = await http.post(INFER, json=body(id="seven"))
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "tiny-adder",
        "model_version": "1",
        "id": "seven",
        "outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 4], "data": [11.0, 22.0, 33.0, 44.0]}],
    }
    nested = body(inputs=[tensor("a", [[1, 2, 3, 4]]), tensor("b", [[0.5] * 4])])
    assert (await http.post("/v2/models/tiny-adder/versions/1/infer", json=nested)).json()["outputs"][0]["data"] == [
        1.5, 2.5, 3.5, 4.5,
    ]  # fmt: skip


async def test_content_type_is_not_looked_at(http: httpx.AsyncClient) -> None:
    """As Triton: `curl -d` sends a form's."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post(INFER, content=orjson.dumps(body()), headers=headers)).status_code == 200


async def test_binary_inference(http: httpx.AsyncClient) -> None:
    content, headers = binary(rows=3)
    response = await http.post(INFER, content=content, headers=headers)
    document, raw = read_binary(response)
    assert document["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [3, 4], "parameters": {"binary_data_size": 48}}
    ]
    assert np.frombuffer(raw, np.float32).tolist() == [2.0 * n for n in range(12)]


@pytest.mark.parametrize("padding", range(9))
async def test_tensor_behind_a_header_of_any_length_is_read_where_it_lies(
    http: httpx.AsyncClient, padding: int
) -> None:
    content, headers = binary(id="x" * padding)
    document, raw = read_binary(await http.post(INFER, content=content, headers=headers))
    assert np.frombuffer(raw, np.float32).tolist() == [0.0, 2.0, 4.0, 6.0]
    assert document.get("id", "") == "x" * padding


async def test_binary_and_json_mix_in_both_directions(http: httpx.AsyncClient) -> None:
    raw = np.ones(4, np.float32).tobytes()
    document = {
        "inputs": [
            tensor("b", [1, 2, 3, 4]),
            {"name": "a", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}},
        ],
        "outputs": [{"name": "sum", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True},
    }
    head = orjson.dumps(document)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = await http.post(INFER, content=head + raw, headers=headers)
    assert response.json()["outputs"][0]["data"] == [2.0, 3.0, 4.0, 5.0]
    _, raw = read_binary(
        await http.post(INFER, json=body(outputs=[{"name": "sum", "parameters": {"binary_data": True}}]))
    )
    assert np.frombuffer(raw, np.float32).tolist() == [11.0, 22.0, 33.0, 44.0]


@pytest.mark.parametrize("off", [None, 5, -5])
async def test_a_missing_or_wrong_header_length_is_named(http: httpx.AsyncClient, off: int | None) -> None:
    content, headers = binary()
    length = int(headers["Inference-Header-Content-Length"])
    headers = {} if off is None else {"Inference-Header-Content-Length": str(length + off)}
    answer = await http.post(INFER, content=content, headers=headers)
    assert answer.status_code == 400 and "Inference-Header-Content-Length" in answer.json()["error"]


async def test_body_without_json_is_the_only_input(http: httpx.AsyncClient) -> None:
    image = np.zeros((1, 3, 32, 32), np.float32)
    path = "/v2/models/tiny-classifier/infer"
    headers = {"Inference-Header-Content-Length": "0"}
    document, raw = read_binary(await http.post(path, content=image.tobytes(), headers=headers))
    assert [output["shape"] for output in document["outputs"]] == [[1, 5], [1, 8]]
    assert len(raw) == 4 * 13
    refused = await http.post(path, content=image.tobytes()[:-1], headers=headers)
    assert refused.status_code == 400
    two = await http.post(INFER, content=b"\0" * 16, headers=headers)
    assert (two.status_code, "one input" in two.json()["error"]) == (400, True)


async def test_body_without_json_tells_a_free_axis_and_a_text(settings: Settings) -> None:
    tiny_models.add_echo(settings.models_dir, "words", ("BYTES",))
    tiny_models.add_echo(settings.models_dir, "numbers", ("INT16",))
    headers = {"Inference-Header-Content-Length": "0"}
    async with asgi.client(create_app(settings)) as http:
        document, raw = read_binary(
            await http.post("/v2/models/words/infer", content="naïve".encode(), headers=headers)
        )
        assert (document["outputs"][0]["shape"], raw) == ([1, 1], b"\x06\0\0\0" + "naïve".encode())
        document, raw = read_binary(await http.post("/v2/models/numbers/infer", content=b"\1\0\2\0", headers=headers))
        assert (document["outputs"][0]["shape"], raw) == ([1, 2], b"\1\0\2\0")


async def test_every_datatype_goes_through_json(http: httpx.AsyncClient) -> None:
    inputs = []
    for datatype in tiny_models.ELEMENT:
        data: list[object] = ["", "é", "a\0b"] if datatype == "BYTES" else [False, True, True]
        if datatype not in ("BYTES", "BOOL"):
            data = [0, 1, 2]
        inputs.append(tensor(f"in_{datatype.lower()}", data, datatype, [1, 3]))
    response = await http.post("/v2/models/tiny-echo/infer", json={"inputs": inputs})
    for sent, got in zip(inputs, response.json()["outputs"], strict=True):
        assert (got["datatype"], got["shape"], got["data"]) == (sent["datatype"], [1, 3], sent["data"])


async def test_classification_extension(http: httpx.AsyncClient) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    request = {
        "inputs": [tensor("image", image.ravel().tolist(), shape=[2, 3, 32, 32])],
        "outputs": [
            {"name": "logits", "parameters": {"classification": 2}},
            {"name": "features", "parameters": {"classification": 1}},
        ],
    }
    response = await http.post("/v2/models/tiny-classifier/infer", json=request)
    logits, features = response.json()["outputs"]
    plain = await http.post("/v2/models/tiny-classifier/infer", json={"inputs": request["inputs"]})
    scores = np.array(plain.json()["outputs"][0]["data"]).reshape(2, 5)
    assert (logits["datatype"], logits["shape"], features["shape"]) == ("BYTES", [2, 2], [2, 1])
    for row in range(2):
        value, index, label = logits["data"][2 * row].split(":")
        assert int(index) == scores[row].argmax()
        assert float(value) == pytest.approx(scores[row].max(), abs=1e-5)
        assert label == tiny_models.LABELS[int(index)]
    assert features["data"][0].count(":") == 1  # features have no labels


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_compressed_requests(http: httpx.AsyncClient, encoding: str, pack: Any) -> None:
    content, headers = binary(rows=8000)
    response = await http.post(INFER, content=pack(content), headers={**headers, "Content-Encoding": encoding})
    _, raw = read_binary(response)
    assert np.frombuffer(raw, np.float32)[:3].tolist() == [0.0, 2.0, 4.0]


async def test_statistics_count_requests_rows_and_batches(own: httpx.AsyncClient) -> None:
    content, headers = binary(rows=3)
    await asyncio.gather(*(own.post(INFER, content=content, headers=headers) for _ in range(4)))
    await own.post(INFER, json=body(inputs=[tensor("a", [1] * 4)]))
    for path in ("/v2/models/tiny-adder/stats", "/v2/models/tiny-adder/versions/1/stats", "/v2/models/stats"):
        stats = (await own.get(path)).json()["model_stats"]
        (mine,) = [one for one in stats if one["name"] == "tiny-adder"]
        assert (mine["version"], mine["inference_count"]) == ("1", 12)
        assert mine["inference_stats"]["success"]["count"] == mine["inference_stats"]["queue"]["count"] == 4
        assert mine["inference_stats"]["fail"]["count"] == 1
        assert mine["inference_stats"]["compute_infer"]["ns"] > 0
        batches = {one["batch_size"]: one["compute_infer"]["count"] for one in mine["batch_stats"]}
        assert sum(size * count for size, count in batches.items()) == 12
        assert sum(batches.values()) == mine["execution_count"]


async def test_index_load_and_unload(own: httpx.AsyncClient, settings: Settings) -> None:
    entries = (await own.post("/v2/repository/index")).json()
    assert {(one["name"], one["state"]) for one in entries} >= {("tiny-adder", "READY"), ("tiny-echo", "READY")}
    assert (await own.post("/v2/repository/models/tiny-adder/unload")).status_code == 200
    ready = (await own.post("/v2/repository/index", json={"ready": True})).json()
    assert "tiny-adder" not in {one["name"] for one in ready}
    assert (await own.get("/v2/models/tiny-adder/ready")).status_code == 400
    assert (await own.get("/v2/models/tiny-adder")).status_code == 503
    refused = await own.post(INFER, json=body())
    assert (refused.status_code, "unloaded on request" in refused.json()["error"]) == (503, True)
    assert (await own.post("/v2/repository/models/tiny-adder/load", json={"parameters": {}})).status_code == 200
    assert (await own.post(INFER, json=body())).status_code == 200


async def test_load_takes_a_version_policy(own: httpx.AsyncClient, settings: Settings) -> None:
    tiny_models.add_adder(settings.models_dir, version="2", offset=1)
    load = "/v2/repository/models/tiny-adder/load"
    assert (await own.post(load)).status_code == 200
    assert (await own.post(INFER, json=body())).json()["model_version"] == "2"
    policy = '{"version_policy": {"specific": {"versions": [1]}}}'
    assert (await own.post(load, json={"parameters": {"config": policy}})).status_code == 200
    assert (await own.post(INFER, json=body())).json()["model_version"] == "1"
    refused = await own.post("/v2/models/tiny-adder/versions/2/infer", json=body())
    assert (refused.status_code, "version 2 is not among" in refused.json()["error"]) == (503, True)


async def test_pipeline_has_no_tensors_and_unloads_with_its_components(settings: Settings, repository: Path) -> None:
    pipeline = Pipeline(kind="zero-shot", image_model="tiny-classifier", text_model="tiny-text")
    tiny_models.write(repository, tiny_models.card("piped", pipeline=pipeline, task="zero-shot-classify"), {})
    async with asgi.client(create_app(settings)) as http:
        assert (await http.get("/v2/models/piped")).json()["platform"] == "ensemble"
        refused = await http.post("/v2/models/piped/infer", json=body())
        assert (refused.status_code, "pipeline" in refused.json()["error"]) == (400, True)
        unload = {"parameters": {"unload_dependents": True}}
        assert (await http.post("/v2/repository/models/piped/unload", json=unload)).status_code == 200
        assert (await http.get("/v2/models/tiny-text/ready")).status_code == 400


async def test_nan_comes_back_as_null_in_json_and_as_it_is_in_binary(http: httpx.AsyncClient) -> None:
    content, headers = binary()
    nan = np.array([np.nan, np.inf, -np.inf, 1], np.float32).tobytes()
    _, raw = read_binary(await http.post(INFER, content=content[:-32] + nan * 2, headers=headers))
    assert raw == np.array([np.nan, np.inf, -np.inf, 2], np.float32).tobytes()
    head = orjson.loads(content[:-32])
    del head["parameters"]
    sent = orjson.dumps(head)
    headers = {"Inference-Header-Content-Length": str(len(sent))}
    response = await http.post(INFER, content=sent + nan * 2, headers=headers)
    assert response.json()["outputs"][0]["data"] == [None, None, None, 2.0]


# Refusals


def _inputs(**changes: object) -> bytes:
    return orjson.dumps(body(inputs=[{**tensor("a", [1] * 4), **changes}, tensor("b", [1] * 4)]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The body is empty|object is expected"),
        (b"{", "not JSON|byte"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b'{"inputs": NaN}', "byte"),
        (_inputs(data=[1, 2, 3, 4]).replace(b"[1,2,3,4]", b"[NaN,2,3,4]"), "byte"),
        (_inputs(data=[1, 2, 3, 4]).replace(b"[1,2,3,4]", b"[Infinity,2,3,4]"), "byte"),
        (b"\xff\xfe", "byte"),
        (b"[" * 100_000, "byte"),
        (orjson.dumps({}), "`inputs`"),
        (orjson.dumps(body(inputs=[])), "`inputs`"),
        (orjson.dumps(body(inputs={"a": 1})), "`inputs`"),
        (orjson.dumps(body(inputs=[1])), "`inputs`"),
        (orjson.dumps(body(inputs=[{}])), "`inputs`"),
        (orjson.dumps(body(inputs=[{"name": ""}])), "`inputs`"),
        (orjson.dumps(body(inputs=[tensor("a", [1] * 4)] * 300)), "`inputs`"),
        (orjson.dumps(body(inputs=[tensor("a", [1] * 4)] * 2)), "twice"),
        (orjson.dumps(body(inputs=[tensor("a", [1] * 4)])), "'b' was not sent"),
        (orjson.dumps(body(inputs=[tensor("a", [1] * 4), tensor("c", [1] * 4)])), "no input 'c'"),
        (_inputs(datatype="BF16"), "BF16"),
        (_inputs(datatype="FLOAT"), "FLOAT"),
        (_inputs(datatype=None), "None"),
        (_inputs(datatype="INT32"), "INT32|the model takes FP32"),
        (_inputs(datatype="BYTES", data=["a"] * 4), "the model takes FP32"),
        (_inputs(shape=None), "shape"),
        (_inputs(shape=[-1, 4]), "shape"),
        (_inputs(shape=[1, "4"]), "shape"),
        (_inputs(shape=[2**40, 2**40]), "4 elements were sent"),
        (_inputs(shape=[4]), "the model takes"),
        (_inputs(shape=[1, 1, 4]), "the model takes"),
        (_inputs(shape=[2, 2]), "the model takes"),
        (_inputs(shape=[0, 4], data=[]), "the model takes"),
        (_inputs(shape=[2, 4], data=[1] * 8), "rows"),
        (_inputs(data=[1, 2, 3]), "3 elements"),
        (_inputs(data=["1", "2", "3", "4"]), "str"),
        (_inputs(data=[None] * 4), "null"),
        (_inputs(data=[1e300] * 4), "out of the range"),
        (_inputs(data="AAAA"), "no data"),
        (_inputs(parameters=7), "not an object"),
        (_inputs(parameters={"binary_data_size": 16}), "both"),
        (_inputs(parameters={"shared_memory_region": "x"}), "Shared memory"),
        (orjson.dumps(body(outputs="sum")), "`outputs`"),
        (orjson.dumps(body(outputs=[{"name": "nothing"}])), "no output"),
        (orjson.dumps(body(outputs=[{"name": "sum"}] * 2)), "twice"),
        (orjson.dumps(body(outputs=[{"name": "sum", "parameters": {"classification": -1}}])), "classification"),
        (orjson.dumps(body(outputs=[{"name": "sum", "parameters": {"classification": 1.5}}])), "classification"),
        (orjson.dumps(body(outputs=[{"name": "sum", "parameters": {"binary_data": "yes"}}])), "binary_data"),
        (orjson.dumps(body(parameters=[])), "not an object"),
        (orjson.dumps(body(parameters={"priority": -1})), "priority"),
        (orjson.dumps(body(parameters={"timeout": "soon"})), "timeout"),
        (orjson.dumps(body(parameters={"sequence_id": 4})), "sequence_id"),
        (orjson.dumps(body(id=7)), "`id`"),
    ],
)
async def test_wrong_requests_are_400_and_say_why(http: httpx.AsyncClient, content: bytes, said: str) -> None:
    response = await http.post(INFER, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]
    assert any(part in response.json()["error"] for part in said.split("|")), response.text
    assert (await http.post(INFER, json=body())).status_code == 200


@pytest.mark.parametrize(
    ("length", "cut", "said"),
    [
        ("x", 0, "not a whole number"),
        ("-1", 0, "not a whole number"),
        ("1" * 30, 0, "not a whole number"),
        ("999999", 0, "the body has"),
        ("3", 0, "byte"),
        (None, 0, "byte"),
        ("", 4, "were announced"),
        ("", -1, "follow the last tensor"),
    ],
)
async def test_wrong_binary_requests_are_400_and_say_why(
    http: httpx.AsyncClient, length: str | None, cut: int, said: str
) -> None:
    content, headers = binary()
    content = content + b"\0" if cut < 0 else content[: len(content) - cut]
    if length is None:
        headers = {}
    elif length:
        headers["Inference-Header-Content-Length"] = length
    response = await http.post(INFER, content=content, headers=headers)
    assert (response.status_code, said in response.json()["error"]) == (400, True), response.text


async def test_binary_size_that_does_not_fit_the_shape_is_400(http: httpx.AsyncClient) -> None:
    content, headers = binary()
    head = orjson.loads(content[:-32])
    head["inputs"][0]["shape"] = [2**31, 2**31]
    sent = orjson.dumps(head)
    headers = {"Inference-Header-Content-Length": str(len(sent))}
    response = await http.post(INFER, content=sent + content[-32:], headers=headers)
    assert (response.status_code, "16 bytes were sent" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("encoding", "content", "status"),
    [
        ("br", b"x", 400),
        ("gzip, gzip", b"x", 400),
        ("gzip", b"not gzip", 400),
        ("gzip", gzip.compress(orjson.dumps(body()))[:-9], 400),
        ("gzip", gzip.compress(orjson.dumps(body())) + b"more", 400),
        ("deflate", gzip.compress(orjson.dumps(body())), 400),
        ("gzip", b"", 400),
    ],
)
async def test_broken_compression_is_refused(
    http: httpx.AsyncClient, encoding: str, content: bytes, status: int
) -> None:
    response = await http.post(INFER, content=content, headers={"Content-Encoding": encoding})
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]


async def test_decompression_bomb_stops_at_the_limit(http: httpx.AsyncClient, settings: Settings) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(256)), packer.flush()])
    assert len(bomb) < 1 << 19
    response = await http.post(INFER, content=bomb, headers={"Content-Encoding": "deflate"})
    assert (response.status_code, "Decompressed" in response.json()["error"]) == (413, True)


async def test_json_with_too_many_values_is_413_before_it_is_parsed(http: httpx.AsyncClient) -> None:
    content = b'{"inputs": [' + b"[]," * 1_200_000 + b"[]]}"
    response = await http.post(INFER, content=content)
    assert (response.status_code, "1,000,000 commas" in response.json()["error"]) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/tiny-adder/versions/7", 404),
        ("GET", "/v2/models/tiny-adder/versions/x", 404),
        ("GET", "/v2/models/nothing/config", 404),
        ("GET", "/v2/models/nothing/stats", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/..%2f..%2fetc/config", 404),
        ("GET", "/v2/models/tiny-adder%00", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/tiny-adder/versions/7/infer", 404),
        ("POST", "/v2/repository/models/nothing/load", 404),
        ("POST", "/v2/repository/models/nothing/unload", 404),
        ("POST", "/v2/repository/models/..%2ftiny-adder/load", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/x/register", 501),
        ("GET", "/v2/trace/setting", 501),
        ("POST", "/v2/logging", 501),
    ],
)
async def test_unknown_things_are_refused_in_the_protocols_form(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path, content=orjson.dumps(body()) if method == "POST" else None)
    assert response.status_code == status, response.text
    assert ("ready" if path.endswith("/ready") else "error") in response.json()


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        {"config": "{"},
        {"config": '{"max_batch_size": 1}'},
        {"config": '{"version_policy": {"specific": {"versions": ["../1"]}}}'},
        {"config": 7},
        {"file:1/model.onnx": "AAAA"},
        {"config": "{}", "file:1/model.onnx": "AAAA"},
    ],
)
async def test_load_takes_nothing_that_would_change_a_model(http: httpx.AsyncClient, parameters: object) -> None:
    response = await http.post("/v2/repository/models/tiny-adder/load", json={"parameters": parameters})
    assert (response.status_code, "parameters" in response.json()["error"]) == (400, True)


async def test_timeout_and_priority_are_kept(settings: Settings) -> None:
    model = tiny_models.slow(iterations=60_000)
    card = tiny_models.card("slow", model, batching=Batching(max_batch_size=1))
    tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    one = {"inputs": [tensor("x", [1.0] * 64, shape=[1, 64])]}
    async with asgi.client(create_app(settings)) as http:
        path = "/v2/models/slow/infer"
        order: list[str] = []

        async def send(name: str, **parameters: int) -> int:
            response = await http.post(path, json={**one, "parameters": parameters})
            order.append(name)
            return response.status_code

        running = asyncio.create_task(send("running"))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(send("late", priority=9))
        await asyncio.sleep(0.002)
        pushing = asyncio.create_task(send("pushing", priority=1))
        normal = asyncio.create_task(send("normal"))
        hasty = asyncio.create_task(send("hasty", timeout=1000))
        assert await asyncio.gather(running, late, pushing, normal) == [200] * 4
        assert await hasty in (429, 504)  # refused at once when it is known to be too late
        assert [name for name in order if name != "hasty"] == ["running", "pushing", "normal", "late"]


async def test_full_queue_is_429_with_retry_after(settings: Settings) -> None:
    model = tiny_models.slow(iterations=10_000)
    card = tiny_models.card("slow", model, batching=Batching(max_batch_size=1, max_queue=2))
    tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    one = {"inputs": [tensor("x", [1.0] * 64, shape=[1, 64])]}
    async with asgi.client(create_app(settings)) as http:
        responses = await asyncio.gather(*(http.post("/v2/models/slow/infer", json=one) for _ in range(8)))
        refused = [response for response in responses if response.status_code == 429]
        assert refused
        assert {response.status_code for response in responses} == {200, 429}
        assert all(int(response.headers["Retry-After"]) >= 1 for response in refused)


async def test_keys_guard_inference_and_administration(settings: Settings, repository: Path) -> None:
    upgrade(settings.database)
    store = KeyStore(connect(settings.database))
    _, infer_key = store.create("caller", ("infer",))
    _, admin_key = store.create("admin", ("admin",))
    async with asgi.client(create_app(settings.model_copy(update={"auth": "required"}))) as http:
        assert (await http.get("/v2/health/ready")).status_code == 200
        for path in ("/v2", "/v2/models/tiny-adder", "/v2/models/tiny-adder/ready", "/v2/models/stats"):
            response = await http.get(path)
            assert (response.status_code, list(response.json())) == (401, ["error"])
        assert (await http.post(INFER, json=body())).status_code == 401
        caller = {"Authorization": f"Bearer {infer_key}"}
        assert (await http.post(INFER, json=body(), headers=caller)).status_code == 200
        for action in ("load", "unload"):
            path = f"/v2/repository/models/tiny-adder/{action}"
            assert (await http.post(path, headers=caller)).status_code == 403
            assert (await http.post(path, headers={"X-API-Key": admin_key})).status_code == 200
