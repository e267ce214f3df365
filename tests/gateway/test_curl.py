"""What a person types: curl with JSON, a form, a file, a key, a body that waits for permission."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from services.settings import Settings
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from tests.support import tiny_models
from tests.support.server import Server, serving

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curl")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    settings = Settings(data_dir=folder / "data")
    upgrade(settings.database)
    return KeyStore(connect(settings.database)).create("curl", ["infer"])[1]


@pytest.fixture(scope="module")
def server(folder: Path, key: str) -> Iterator[Server]:
    settings = Settings(data_dir=folder / "data", log_level="warning", default_classifier="tiny-classifier")
    tiny_models.add_all(settings.models_dir)
    with serving(settings, folder) as server:
        yield server


@pytest.fixture(scope="module")
def photo(folder: Path) -> Path:
    path = folder / "photo.jpg"
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(path)
    return path


def curl(server: Server, path: str, *arguments: str) -> tuple[int, str]:
    """Status and body of one call."""
    command = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments, f"{server.url}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_json_form_and_file_give_the_same_answer(server: Server, key: str, photo: Path, folder: Path) -> None:
    bearer = ("-H", f"Authorization: Bearer {key}")
    document = folder / "request.json"
    image = base64.b64encode(photo.read_bytes()).decode()
    document.write_text(json.dumps({"image": image, "labels": ["cat", "dog"], "top_k": 1}))
    answers = [
        curl(server, "/v1/classify", *bearer, "--json", f"@{document}"),
        curl(server, "/v1/classify", "-H", f"X-API-Key: {key}", "-F", f"image=@{photo}", "-F", FIELDS),
        curl(
            server,
            "/v1/classify?labels=cat,dog&top_k=1",
            *bearer,
            "-H",
            "Content-Type: image/jpeg",
            "--data-binary",
            f"@{photo}",
        ),
    ]
    assert [status for status, _ in answers] == [200] * 3, answers
    parsed = [json.loads(body) for _, body in answers]
    assert parsed[0] == parsed[1] == parsed[2]
    assert parsed[0]["results"][0]["width"] == 60


FIELDS = 'request={"labels": ["cat", "dog"], "top_k": 1};type=application/json'


def test_a_body_that_asks_first_is_let_through(server: Server, key: str, folder: Path) -> None:
    path = folder / "large.png"
    sink = io.BytesIO()
    Image.effect_noise((1500, 1200), 80).save(sink, "PNG")
    path.write_bytes(sink.getvalue())
    assert path.stat().st_size > 1024 * 1024
    headers = ("-H", f"X-API-Key: {key}", "-H", "Content-Type: image/png", "-H", "Expect: 100-continue")
    status, body = curl(server, "/v1/classify", *headers, "--data-binary", f"@{path}")
    assert status == 200, body
    status, body = curl(
        server, "/v1/classify", *headers, "-H", "Transfer-Encoding: chunked", "-T", str(path), "-X", "POST"
    )
    assert status == 200, body


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server, key: str, folder: Path) -> None:
    path = folder / "huge.bin"
    with path.open("wb") as huge:
        huge.truncate(60 * 1024 * 1024)
    headers = ("-H", f"X-API-Key: {key}", "-H", "Content-Type: image/png", "-H", "Expect:")
    status, body = curl(server, "/v1/classify", *headers, "--data-binary", f"@{path}")
    assert (status, json.loads(body)["error"]["code"]) == (413, "body-too-large")
    status, body = curl(server, "/v1/classify", "-H", "Content-Type: image/png", "--data-binary", f"@{path}")
    assert (status, json.loads(body)["error"]["code"]) == (413, "body-too-large")


def test_an_offer_to_upgrade_the_protocol_is_passed_over(server: Server, key: str, photo: Path) -> None:
    upgrade = ("-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c", "-H", "HTTP2-Settings: AAMAAABkAAQ")
    image = ("-H", f"X-API-Key: {key}", "-H", "Content-Type: image/jpeg", "--data-binary", f"@{photo}")
    status, body = curl(server, "/v1/classify", *upgrade, *image)
    assert status == 200, body
    websocket = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13")
    status, _ = curl(server, "/healthz", *websocket, "-H", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==")
    assert status == 200


def test_head_keeps_the_connection_for_the_next_request(server: Server, key: str) -> None:
    """The server counts no body after it: a second request on the same connection is answered too."""
    import httpx

    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}) as http:
        head, got = http.head("/v1/models"), http.get("/v1/models")
        assert (head.status_code, head.content, got.status_code) == (200, b"", 200)
        assert head.headers["content-length"] == str(len(got.content))
