"""What docker-compose.yml promises of every service, and that what it builds from is sound."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tomllib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from services.settings import Settings
from tests.support import compose
from tests.support.compose import NOT_HERE, ROOT

DOCKER = ROOT / "deploy" / "docker"
PROBE = DOCKER / "probe.py"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return compose.configuration()


@pytest.fixture(scope="module")
def services(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = config["services"]
    return found


def test_every_service_is_contained(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"] and not service.get("cap_add"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert not service.get("privileged") and "network_mode" not in service and "pid" not in service, name
        user = service.get("user", "10001:10001" if service["image"].startswith("sightline-") else None)
        assert user is not None and user.partition(":")[0].isdigit() and not user.startswith("0"), name
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0 and limits["memory"] and service["pids_limit"] > 0, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_every_service_says_how_it_is_and_comes_back(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name == "models":
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name


def test_images_of_others_are_pinned_and_our_own_are_built_here(services: dict[str, dict[str, Any]]) -> None:
    targets = {service["image"]: service["build"] for service in services.values() if "build" in service}
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"
        if image.startswith("sightline-"):
            build = targets[service["image"]]
            text = (ROOT / build["dockerfile"]).read_text()
            if "target" in build:
                assert re.search(rf"^FROM \S+ AS {build['target']}$", text, re.MULTILINE), name
            assert "USER 10001:10001" in text


def test_secrets_come_from_files_and_nothing_has_a_default_password(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|REDIS_URL", variable):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
        assert not re.search(r"://[^/\s]*:[^/\s@]+@", yaml.safe_dump(service)), name
    committed = subprocess.run(["git", "ls-files", "deploy/compose"], cwd=ROOT, capture_output=True, text=True)
    assert "secrets/" not in committed.stdout


def test_each_secret_file_is_made_and_given_to_somebody(config: dict[str, Any], tmp_path: Path) -> None:
    subprocess.run([ROOT / "deploy/compose/make-secrets", tmp_path], check=True, capture_output=True)
    given = {secret["source"] for service in config["services"].values() for secret in service.get("secrets", ())}
    assert given == set(config["secrets"])
    for name, secret in config["secrets"].items():
        assert Path(secret["file"]).name == name
        assert (tmp_path / name).stat().st_size > 0


def test_secrets_are_different_each_time_kept_once_made_and_closed_to_others(tmp_path: Path) -> None:
    script = ROOT / "deploy/compose/make-secrets"
    for folder in ("one", "two"):
        subprocess.run([script, tmp_path / folder], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    other = {path.name: path.read_text() for path in (tmp_path / "two").iterdir()}
    assert {name for name in made if made[name] == other[name]} == {"alert_url"}
    assert all(len(made[name]) == 48 for name in ("postgres_password", "redis_password", "grafana_password"))
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
    subprocess.run(
        [script, tmp_path / "one"], check=True, capture_output=True, env={**os.environ, "ALERT_URL": "https://x/y"}
    )
    again = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    assert again == {**made, "alert_url": "https://x/y"}


def test_only_what_people_use_is_reachable_from_outside(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert published.keys() == {"gateway", "grafana", "prometheus", "alertmanager"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    for name in ("postgres", "redis", "worker-batch", "worker-finetune", "torch-worker"):
        assert list(services[name]["networks"]) == ["inside"]


def test_the_database_and_the_broker_have_no_way_out(config: dict[str, Any]) -> None:
    assert config["networks"]["inside"] == {"internal": True}


def test_settings_that_services_are_given_exist(services: dict[str, dict[str, Any]]) -> None:
    known = {f"SIGHTLINE_{name.upper()}" for name in Settings.model_fields}
    for name, service in services.items():
        if service["image"].startswith(("sightline-gateway", "sightline-trainer", "sightline-triton")):
            assert set(service["environment"]) <= known, name
            assert {secret["source"].upper() for secret in service.get("secrets", ())} <= known, name


def test_every_queue_has_a_worker_and_time_to_hand_its_jobs_back(services: dict[str, dict[str, Any]]) -> None:
    from services.jobs.queues import QUEUES

    workers = {service["command"][-1]: service for name, service in services.items() if name.startswith("worker-")}
    assert set(workers) == set(QUEUES)
    drain = Settings().drain_seconds
    for service in workers.values():
        assert int(service["stop_grace_period"].removesuffix("s")) >= drain + 15
    assert int(services["gateway"]["stop_grace_period"].removesuffix("s")) >= 2 * drain + 15  # maintenance stops first


def test_the_torch_worker_is_found_with_the_token_and_has_the_memory_that_it_may_take(
    services: dict[str, dict[str, Any]],
) -> None:
    worker = services["torch-worker"]
    (port,) = worker["expose"]
    assert services["gateway"]["environment"]["SIGHTLINE_TORCH_URL"] == f"torch-worker:{port}"
    for service in (worker, services["gateway"]):
        assert "sightline_torch_token" in {secret["source"] for secret in service["secrets"]}
    limit = worker["deploy"]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("g")) * 2**30 > Settings().torch_memory_bytes
    assert int(worker["stop_grace_period"].removesuffix("s")) >= Settings().drain_seconds + 15


def test_images_of_the_gateway_hold_no_training_library() -> None:
    def named(*extras: str) -> str:
        script = [sys.executable, DOCKER / "requirements.py", *extras]
        return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    text = (DOCKER / "sightline.Dockerfile").read_text()
    (extras,) = re.findall(r'requirements\.py "\$\{ENGINE\}" ([\w ]+) >', text)
    gateway = named("cpu", *extras.split())
    assert not re.search(r"^(torch|onnx|scikit-learn|transformers)\b", gateway, re.MULTILINE)
    assert re.search(r"^onnxruntime\b", gateway, re.MULTILINE) and re.search(r"^psycopg", gateway, re.MULTILINE)
    assert re.search(r"^scikit-learn", named("train"), re.MULTILINE)


def test_pytorch_is_the_version_that_a_set_up_installs() -> None:
    (version,) = re.findall(r"^ARG TORCH=torch==(\S+)$", (DOCKER / "sightline.Dockerfile").read_text(), re.MULTILINE)
    assert f"torch=={version}" in (ROOT / "scripts" / "setup.sh").read_text()


def test_the_version_of_the_images_is_that_of_the_project(services: dict[str, dict[str, Any]]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    own = {service["image"].rpartition(":")[2] for service in services.values() if "sightline-" in service["image"]}
    assert own == {version}


def test_what_dockerfiles_copy_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for path in DOCKER.glob("*.Dockerfile"):
        for line in re.findall(r"^COPY (?!--from)(.*)$", path.read_text(), re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), f"{path.name}: {source}"
                assert any(source == name or source.startswith(f"{name}/") for name in kept), f"{path.name}: {source}"


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_hadolint_finds_no_fault(path: Path) -> None:
    done = subprocess.run([Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_services_that_do_not_run_in_tests_are_few_and_named(services: dict[str, dict[str, Any]]) -> None:
    assert set(NOT_HERE) <= set(services)
    assert len(services) - len(NOT_HERE) == 13


def test_grafana_finds_its_dashboards_and_sources(services: dict[str, dict[str, Any]]) -> None:
    mounts = dict(volume.split(":")[:2][::-1] for volume in services["grafana"]["volumes"])
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "sightline.yml").read_text())["providers"]
    assert list(Path(mounts[provider["options"]["path"]]).glob("*.json"))
    for source in yaml.safe_load((folder / "datasources" / "sources.yml").read_text())["datasources"]:
        name, _, port = source["url"].removeprefix("http://").partition(":")
        assert port in services[name]["expose"]


def test_prometheus_scrapes_what_is_there(services: dict[str, dict[str, Any]]) -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    aliases = {"triton": "triton-gpu", "localhost": "prometheus"}
    for job in jobs:
        targets = [target for static in job.get("static_configs", ()) for target in static["targets"]]
        targets += [f"{name}:{found['port']}" for found in job.get("dns_sd_configs", ()) for name in found["names"]]
        for target in targets:
            name, _, port = target.partition(":")
            assert port in services[aliases.get(name, name)]["expose"], target


# The probe


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def probe(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-I", PROBE, *arguments], stderr=subprocess.DEVNULL).returncode


def test_the_probe_tells_an_answer_from_a_refusal_and_from_nobody() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Health)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert probe("http", f"{url}/readyz") == 0
        assert probe("http", f"{url}/other") == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert probe("http", f"{url}/readyz") == 1


def test_the_probe_over_tcp_wants_to_hear_something() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert probe("tcp", address) == 1  # connected, and nobody says anything

        def speak() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"hello")
                connection.recv(1)

        server.accept()[0].close()  # the first probe's
        thread = Thread(target=speak, daemon=True)
        thread.start()
        assert probe("tcp", address) == 0
        thread.join(10)
        assert not thread.is_alive()
    assert probe("tcp", address) == 1


def test_the_probe_finds_a_process_and_not_itself() -> None:
    mark = f"mark-{os.getpid()}-of-this-test"
    assert probe("process", mark) == 1
    with subprocess.Popen([sys.executable, "-c", "input()", mark], stdin=subprocess.PIPE) as process:
        assert probe("process", mark) == 0
        process.communicate(b"\n")
    assert probe("process", mark) == 1


def test_the_probe_says_when_it_is_asked_wrongly() -> None:
    assert probe("nonsense") == 2


def test_entrypoints_are_lists_so_that_signals_arrive() -> None:
    for path in DOCKER.glob("*.Dockerfile"):
        for kind, value in re.findall(r"^(ENTRYPOINT|CMD|    CMD) (.*)$", path.read_text(), re.MULTILINE):
            assert isinstance(json.loads(value), list), f"{path.name}: {kind}"
