"""Finding a server, choosing a device, ports, shared memory, and what `sightline triton check` says."""

from __future__ import annotations

import json
import mmap
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.repository.config_files import refresh_configs
from services.errors import Problem
from services.settings import Settings
from sightline.triton import installation, shared_memory
from sightline.triton.checking import check
from sightline.triton.installation import Installation, find
from sightline.triton.running import choose_device
from sightline.triton.server import Ports, Server, check_free
from tests.support import tiny_models

ROOT = Path(__file__).parents[3]
PYTHON = Installation(Path("/x/bin/tritonserver"), Path("/x/backends"))


def native(folder: Path) -> Installation:
    """A server with engines of its own, as NVIDIA lays it out."""
    for name in ("bin/tritonserver", "backends/onnxruntime/libtriton_onnxruntime.so"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch(0o755)
    return find(Settings(triton_server=folder / "bin" / "tritonserver"))


def test_the_server_of_the_checkout_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = find(Settings())
    assert found.binary.is_relative_to(ROOT / ".venv-triton") and not found.native
    assert found.stub is not None and found.stub.is_file()


def test_a_machine_without_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(installation, "CHECKOUT", tmp_path)
    with pytest.raises(Problem) as missing:
        find(Settings())
    assert missing.value.code == "triton-missing" and "make setup" in (missing.value.remedy or "")


def test_an_environment_without_it_is_refused() -> None:
    with pytest.raises(Problem, match="has no nvidia-pytriton") as refused:
        find(Settings(triton_server=Path(sys.prefix)))
    assert refused.value.code == "triton-unusable"


def test_a_server_without_an_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    with pytest.raises(Problem, match="no onnxruntime backend"):
        find(Settings(triton_server=tmp_path / "bin" / "tritonserver"))


def test_a_native_server_is_given_no_backends_of_ours(tmp_path: Path) -> None:
    found = native(tmp_path)
    server = Server(Settings(data_dir=tmp_path), found, tmp_path / "run", Ports.starting_at(8010), gpu=True)
    assert f"--backend-directory={tmp_path / 'backends'}" in server.argv
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "there", "is_native", "expected"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (None, False, True, False),
        (True, True, True, True),
        (False, True, True, False),
        (True, False, True, "gpu-missing"),
        (True, True, False, "triton-unusable"),
    ],
)
def test_the_device_is_what_is_asked_for_or_what_there_is(
    tmp_path: Path, asked: bool | None, there: bool, is_native: bool, expected: bool | str
) -> None:
    found = native(tmp_path) if is_native else PYTHON
    if isinstance(expected, bool):
        assert choose_device(found, asked, there) is expected
        return
    with pytest.raises(Problem) as refused:
        choose_device(found, asked, there)
    assert refused.value.code == expected and refused.value.remedy


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports.starting_at(0)
        with pytest.raises(Problem) as refused:
            check_free("127.0.0.1", Ports(ports.http, taken.getsockname()[1], ports.metrics, ports.watch))
    assert refused.value.code == "port-taken" and "--port" in (refused.value.remedy or "")


def test_shared_memory_is_removed_when_nobody_maps_it(tmp_path: Path) -> None:
    used, left, strange = (tmp_path / name for name in ("sightline_triton_1_a", "sightline_triton_1_b", "other_c"))
    for path in (used, left, strange):
        path.write_bytes(bytes(4096))
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert shared_memory.clean(folder=tmp_path) == [], "all of it is fresh"
        assert shared_memory.clean(folder=tmp_path, fresh=0.0) == [left.name]
    assert used.exists() and strange.exists()
    assert shared_memory.clean(folder=tmp_path, fresh=0.0) == [used.name]


# Checking


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tiny_models.add_all(tmp_path / "models")
    return tmp_path


def problems(data: Path, name: str) -> tuple[str, ...]:
    (checked,) = check(Settings(data_dir=data), [name])
    return checked.problems


def test_models_as_they_are_written_are_right(data: Path) -> None:
    assert all(one.ok and one.served for one in check(Settings(data_dir=data)))


def edited(data: Path, change: Callable[[str], str]) -> None:
    config = data / "models" / "tiny-adder" / "config.pbtxt"
    config.write_text(change(config.read_text()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text + "nonsense {", "cannot be parsed"),
        (lambda text: text.replace("max_batch_size: 8", "max_batch_size: 9"), "in max_batch_size:"),
        (lambda text: text.replace("TYPE_FP32", "TYPE_FP64"), "in input, model_warmup, output:"),
        (lambda text: text.replace("dynamic_batching {}", "dynamic_batching { priority_levels: 2 }"), "half a second"),
        (
            lambda text: text.replace(
                "dynamic_batching {}", "dynamic_batching { default_queue_policy { max_queue_size: 4 } }"
            ),
            "half a second",
        ),
    ],
)
def test_a_configuration_that_was_edited_is_found_and_can_be_written_again(
    data: Path, change: Callable[[str], str], said: str
) -> None:
    edited(data, change)
    assert any(said in problem for problem in problems(data, "tiny-adder"))
    assert refresh_configs(data / "models") == ["tiny-adder"]
    assert problems(data, "tiny-adder") == ()


def test_a_card_that_is_not_true_of_its_file_is_found(data: Path) -> None:
    card = data / "models" / "tiny-adder" / "1" / "card.json"
    card.write_text(card.read_text().replace('"sum"', '"total"'))
    refresh_configs(data / "models")
    assert any("'total' is not in model.onnx" in problem for problem in problems(data, "tiny-adder"))


def test_versions_with_different_signatures_are_told(data: Path) -> None:
    tiny_models.add_adder(data / "models", datatype="FP64", version="2")
    assert any("another signature than version 2" in problem for problem in problems(data, "tiny-adder"))


def test_a_pipeline_is_left_to_the_gateway(data: Path) -> None:
    card = tiny_models.card("tiny-pipeline", pipeline={"kind": "none"}, task="classify")
    tiny_models.write(data / "models", card, {"data.txt": b"x"})
    (checked,) = check(Settings(data_dir=data), ["tiny-pipeline"])
    assert checked.ok and not checked.served


def test_the_command_fails_with_reasons_and_fixes(data: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sightline", "triton", "check", "--data-dir", str(data), *arguments]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)

    edited(data, lambda text: text.replace("KIND_AUTO", "KIND_CPU"))
    wrong = run("--json")
    assert wrong.returncode == 1
    (line,) = [one for one in json.loads(wrong.stdout) if not one["ok"]]
    assert line["name"] == "tiny-adder" and "instance_group" in line["problems"][0]
    fixed = run("--fix")
    assert fixed.returncode == 0 and "written again" in fixed.stdout, fixed.stdout + fixed.stderr
    unknown = run("nobody")
    assert unknown.returncode == 1 and "There is no such model" in unknown.stderr


def test_versions_of_packages_are_those_of_the_platform() -> None:
    """But for the two that cannot be."""
    here = dict(_pins(ROOT / "deploy" / "triton" / "requirements.txt"))
    platform = dict(_pins(ROOT / "constraints.txt"))
    assert {name for name in here if here[name] != platform.get(name)} == {"numpy", "nvidia-pytriton"}


def _pins(file: Path) -> list[tuple[str, str]]:
    return [(name, version) for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), re.MULTILINE)]
