"""What containers and pods tell NVIDIA's server, told to a real one: it takes every argument, and serves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from services.settings import Settings
from sightline.triton.installation import find
from sightline.triton.server import Ports, lives
from sightline.triton.shared_memory import SHARED_MEMORY
from tests.support import compose, tiny_models
from tests.support.serving import eventually

MODEL = "minilm-l6"


def of_compose() -> list[str]:
    command = compose.configuration()["services"]["triton-gpu"]["command"]
    assert isinstance(command, list)
    return command


def of_kubernetes() -> list[str]:
    text = (compose.ROOT / "deploy" / "kubernetes" / "triton" / f"{MODEL}.yaml").read_text()
    (servers,) = [one for one in yaml.safe_load_all(text) if one["kind"] == "StatefulSet"]
    arguments = servers["spec"]["template"]["spec"]["containers"][0]["args"]
    assert isinstance(arguments, list)
    return arguments


@pytest.mark.parametrize("told", [of_compose, of_kubernetes])
def test_a_real_server_takes_the_arguments(told: Callable[[], list[str]], tmp_path: Path) -> None:
    tiny_models.add_text_encoder(tmp_path / "models", MODEL)
    tiny_models.write(
        tmp_path / "models", tiny_models.card("pipeline", pipeline={"kind": "none"}, task="classify"), {"data": b"x"}
    )
    installed, ports = find(Settings()), Ports.starting_at(0)
    program, *arguments = told()
    assert program == "tritonserver"
    here = {"8000": ports.http, "8001": ports.grpc, "8002": ports.metrics, "/data/models": tmp_path / "models"}
    translated = [re.sub("=(.*)", lambda found: f"={here.get(found[1], found[1])}", one) for one in arguments]
    region = f"sightline_triton_{ports.grpc}_"
    beside = [
        # In place of the engines that the image has.
        f"--backend-directory={installed.backend_directory(tmp_path / 'backends')}",
        f"--backend-config=python,shm-region-prefix-name={region}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [installed.binary, *translated, *beside], env=dict(installed.environment), stdout=log, stderr=log
        ) as process,
    ):
        try:

            def answers() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                return lives("127.0.0.1", ports.http)

            eventually(answers, 60)
            # What the checks of health and the probes of pods ask.
            for path in ("/v2/health/ready", f"/v2/models/{MODEL}/ready"):
                assert httpx.get(f"http://127.0.0.1:{ports.http}{path}").status_code == 200, path
            assert f'model="{MODEL}"' in httpx.get(f"http://127.0.0.1:{ports.metrics}/metrics").text
        finally:
            process.terminate()
    for left in SHARED_MEMORY.glob(f"{region}*"):
        left.unlink()
