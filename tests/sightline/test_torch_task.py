"""A line whose model runs in the torch worker, through the whole of ``sightline serve``: its program and its task are a
row each, put into a copy of the project as a line would put them there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import torch

from tests.support import torch_programs
from tests.support.guide import Guide
from tests.support.serving import Serving, command, serving
from tests.support.torch_programs import in_process

PROGRAM = 'PROGRAMS["latent"] = "tests.support.torch_programs:latent"\n'
TASK = "from tests.support.flow_task import FLOW, SHORT\n\nTASKS = (*TASKS, FLOW, SHORT)\n"
TARGET = [0.5] * torch_programs.TARGET

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    copy, data = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("data")
    Guide({}, {}).apply(copy)
    for path, rows in (("models/programs.py", PROGRAM), ("gateway/tasks/__init__.py", TASK)):
        with (copy / path).open("a") as file:
            file.write(rows)

    torch_programs.add_latent(data / "models")
    environment = {"PYTHONPATH": str(copy), "SIGHTLINE_TORCH_THREADS": "1", "SIGHTLINE_TORCH_DEVICE": "cpu"}
    with serving(data, "--port", "0", environment=environment, root=copy) as running:
        yield running


def ask(server: Serving, path: str = "/v1/flow", **body: Any) -> httpx.Response:
    return httpx.post(server.info.url + path, json={"target": TARGET} | body, timeout=60)


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    """Names and data, without the mark of the end."""
    found = []
    for block in answer.text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]:
        if not block.startswith(":"):
            name, data = block.removeprefix("event: ").split("\ndata: ")
            found.append((name, orjson.loads(data)))
    return found


def test_each_step_of_the_program_is_an_event_and_the_last_is_the_answer(server: Serving) -> None:
    torch.set_num_threads(1)
    inputs = {"z": np.zeros((1, 6), np.float32), "target": np.array([TARGET], np.float32)}
    steps = in_process(torch_programs.Latent(torch_programs.mlp()), inputs | {"steps": np.array([[20]])})

    answer = ask(server, steps=20, stream=True)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    told = events(answer)
    assert [name for name, _ in told] == ["preview"] * 20 + ["done"]
    for (_, document), step in zip(told, steps, strict=True):
        assert np.allclose(document["z"], step["z"][0], atol=1e-5)

    assert ask(server, steps=20).json() == told[-1][1]
    assert any("background torch-worker" in command(pid) for pid in server.descendants())


def test_the_deadline_of_the_task_ends_its_stream(server: Serving) -> None:
    assert ask(server, steps=1).status_code == 200  # the worker has started
    answer = ask(server, "/v1/flow-in-a-second", steps=100_000, stream=True)
    refused = answer.json() if answer.status_code == 504 else events(answer)[-1][1]
    assert refused["error"]["code"] == "deadline-exceeded" and "[DONE]" not in answer.text
