"""``sightline serve`` with real gateways: workers are killed, the launcher is killed, addresses are taken."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from services.errors import Problem
from services.settings import ClientSettings, Settings, child_environment
from services.storage.database import connect, upgrade
from services.storage.keys import KeyStore
from sightline.launcher.launcher import check_engines, check_exposure
from sightline.launcher.rundir import read_server
from tests.support.serving import alive, eventually, serving, start

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's promise is Linux'")


def test_it_serves_until_told_to_stop_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0", "--workers", "2") as server:
        assert httpx.get(f"{server.info.url}/readyz").status_code == 200
        workers = server.workers()
        assert len(workers) == server.info.workers == 2
        assert server.stop() == 0
        assert not any(alive(pid) for pid in workers)
        assert list((tmp_path / "run").iterdir()) == []


@linux
def test_a_killed_worker_is_replaced_while_the_other_one_answers(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0", "--workers", "2") as server:
        victim, other = server.workers()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not alive(victim))
        # A connection a request: each goes to a worker of its own.
        eventually(lambda: "gateway-0 died" in server.log or "gateway-1 died" in server.log)
        answers = [httpx.get(f"{server.info.url}/healthz").status_code for _ in range(40)]
        assert answers == [200] * 40
        eventually(lambda: len(server.workers()) == 2 and other in server.workers())

        def counted() -> bool:
            text = httpx.get(f"{server.info.url}/metrics").text
            return bool(re.search(r"^sightline_worker_restarts_total 1\.0$", text, re.MULTILINE))

        eventually(counted)
        assert server.stop() == 0


def test_requests_wait_for_the_only_worker_while_it_restarts(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as server:
        (victim,) = server.workers()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not alive(victim))
        assert httpx.get(f"{server.info.url}/healthz", timeout=30).status_code == 200


def test_a_request_in_flight_is_answered_after_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as server:
        port = int(server.info.url.rpartition(":")[2])
        body = b'{"kind": "no-such-kind", "parameters": {}}'
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head.encode() + body[:10])
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(20)
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: read_server(tmp_path / "run") is None)
            connection.sendall(body[10:])
            assert re.match(rb"HTTP/1\.1 4\d\d ", connection.recv(1000))
        assert server.process.wait(30) == 0


@linux
def test_killing_the_launcher_frees_the_address_and_the_data_directory(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0", environment={"SIGHTLINE_JOBS": "true"}) as server:
        eventually(lambda: len(server.descendants()) >= 4)
        everything = server.descendants()
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(alive(pid) for pid in everything), 10)
    port = server.info.url.rpartition(":")[2]
    (tmp_path / "run" / "server.json").unlink()
    with serving(tmp_path, "--port", port) as again:
        assert httpx.get(f"{again.info.url}/healthz").status_code == 200


def test_a_second_server_on_the_data_directory_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as server:
        second = start(tmp_path, "--port", "0")
        assert second.process.wait(30) == 1
        assert "uses this data directory" in second.log and str(server.process.pid) in second.log
        assert httpx.get(f"{server.info.url}/readyz").status_code == 200


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = start(tmp_path, "--port", str(other.getsockname()[1]))
        assert refused.process.wait(30) == 1
    assert "The port is taken" in refused.log and "Traceback" not in refused.log


def test_the_network_is_let_in_only_where_keys_are_asked_for(settings: Settings) -> None:
    for auth in ("auto", "off"):
        with pytest.raises(Problem) as caught:
            check_exposure(settings.model_copy(update={"host": "0.0.0.0", "auth": auth}))
        assert caught.value.code == "exposed-without-key"
        assert "sightline keys create" in (caught.value.remedy or "")
    check_exposure(settings)
    check_exposure(settings.model_copy(update={"host": "0.0.0.0", "auth": "required"}))


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    address = {"SIGHTLINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    refused = start(tmp_path, "--port", "0", environment=address)
    assert refused.process.wait(30) == 1
    assert "The database cannot be used" in refused.log and "SIGHTLINE_DATABASE_URL" in refused.log


def test_a_key_opens_the_network(settings: Settings) -> None:
    upgrade(settings.database)
    engine = connect(settings.database)
    KeyStore(engine).create("somebody", ["infer"])
    engine.dispose()
    check_exposure(settings.model_copy(update={"host": "0.0.0.0"}))


def test_two_builds_of_the_engine_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_engines()
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Problem) as caught:
        check_engines()
    assert caught.value.code == "engines-conflict"
    assert "pip uninstall" in (caught.value.remedy or "")


def test_a_child_reads_the_same_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_PORT", "9")
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "sqlite:////other.db")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    mine = settings.model_copy(update={"preload": ("a", "b"), "docs": False, "cors_origins": ("https://x.test",)})
    environment = child_environment(mine, defaults={"OMP_NUM_THREADS": "1", "NEW": "1"}, fixed={"FIXED": "1"})
    assert (environment["OMP_NUM_THREADS"], environment["NEW"], environment["FIXED"]) == ("7", "1", "1")
    for name in ("SIGHTLINE_PORT", "SIGHTLINE_DATABASE_URL"):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if name.startswith("SIGHTLINE_"):
            monkeypatch.setenv(name, value)
    assert Settings() == mine


def test_the_client_s_settings_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_URL", "http://there:1")
    monkeypatch.setenv("SIGHTLINE_API_KEY", "sl_x")
    assert (ClientSettings().url, ClientSettings().api_key) == ("http://there:1", "sl_x")
