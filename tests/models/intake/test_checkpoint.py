"""Files of weights: what is taken, what is refused, and that no code of a file ever runs."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint, UnreadableCheckpoint, load, read_state

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, 2.0])}


def nothing_fits(shapes: object) -> list[str]:
    return []


def same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {"model": {"state_dict": {f"module.module.{name}": t for name, t in state.items()}}},
        lambda state: {"module": state, "global_steps": 7},
        lambda state: {"state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in state.items()}},
    ],
    ids=["bare", "model", "state_dict", "model_state_dict", "module", "nested", "deepspeed", "compiled"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_wrapping_gives_the_same_weights(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], object], zipped: bool
) -> None:
    torch.save(wrap(WEIGHTS), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_state(tmp_path / "a.pth"), WEIGHTS)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in WEIGHTS.items()}, tmp_path / "a.safetensors")
    assert same(read_state(tmp_path / "a.safetensors"), WEIGHTS)


def test_settings_of_the_training_script_are_read_without_their_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CfgNode(dict):  # type: ignore[type-arg]
        def __init__(self) -> None:
            super().__init__(EPOCHS=32, NESTED={"LR": 5e-4})
            self.__dict__["__immutable__"] = True

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    yacs, config = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    config.CfgNode = CfgNode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", yacs)
    monkeypatch.setitem(sys.modules, "yacs.config", config)
    torch.save({"model": WEIGHTS, "config": CfgNode()}, tmp_path / "a.pth")
    monkeypatch.delitem(sys.modules, "yacs.config")
    monkeypatch.delitem(sys.modules, "yacs")
    assert same(read_state(tmp_path / "a.pth"), WEIGHTS)
    assert "yacs" not in sys.modules


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("by", ["torch", "pickle"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, by: str, protocol: int) -> None:
    target, file = tmp_path / "ran", tmp_path / "a.pth"
    content = {"model": WEIGHTS, "config": Hostile(target)}
    if by == "torch":
        torch.save(content, file, pickle_protocol=protocol)
    else:
        file.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UnreadableCheckpoint) as caught:
        read_state(file)
    assert not target.exists()
    if protocol == 2:  # torch's own; what it cannot parse at all is merely "no checkpoint"
        assert "refused" in str(caught.value) and "safetensors" in caught.value.remedy


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_file_that_was_cut_off_is_refused(tmp_path: Path, zipped: bool, kept: float) -> None:
    file = tmp_path / "a.pth"
    torch.save({"model": {"w": torch.randn(200, 200)}}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableCheckpoint) as caught:
        read_state(file)
    assert "Fetch it again" in caught.value.remedy


def test_safetensors_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"w": torch.randn(200, 200)}, file)
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(UnreadableCheckpoint, match="cut off"):
        read_state(file)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x00" * 4096], ids=["empty", "html", "zeros"])
def test_file_of_another_sort_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UnreadableCheckpoint):
        read_state(tmp_path / "a.pth")


def test_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "a.pth")
    with pytest.raises(UnreadableCheckpoint, match="no plain tensors"):
        read_state(tmp_path / "a.pth")


def test_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UnreadableCheckpoint):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1, dtype=torch.float16).expand(1 << 20, 1 << 20), torch.eye(3).to_sparse()],
    ids=["repeated", "sparse"],
)
def test_tensor_that_is_larger_than_its_file_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"model": {"w": tensor}}, tmp_path / "a.pth")
    with pytest.raises(UnreadableCheckpoint, match="no plain tensors: w"):
        read_state(tmp_path / "a.pth")


def test_refusal_lists_what_is_missing_unexpected_and_of_another_shape() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    state = {
        "0.weight": torch.zeros(5, 3),
        "0.bias": torch.zeros(2),
        "1.weight": torch.zeros(2, 2),
        "2.bias": torch.zeros(1),
    }
    with pytest.raises(MismatchedCheckpoint) as caught:
        load(network, state, lambda shapes: ["the other one"])
    assert caught.value.missing == ("1.bias",)
    assert caught.value.unexpected == ("2.bias",)
    assert caught.value.reshaped == {"0.weight": ((5, 3), (2, 3))}
    assert "the other one" in caught.value.remedy


def test_long_lists_are_cut_in_the_message_but_kept_in_full() -> None:
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(10)])
    with pytest.raises(MismatchedCheckpoint, match="and 12 more") as caught:
        load(network, {"x": torch.zeros(1)}, nothing_fits)
    assert len(caught.value.missing) == 20


def test_values_that_are_not_finite_are_refused() -> None:
    network = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match="bias holds values that are not finite"):
        load(network, {**WEIGHTS, "bias": torch.tensor([1.0, float("nan")])}, nothing_fits)


def test_refused_checkpoint_leaves_the_network_as_it_was() -> None:
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(CheckpointError):
        load(network, {"weight": WEIGHTS["weight"]}, nothing_fits)
    assert torch.equal(network.weight, before)


def test_loaded_weights_can_be_trained() -> None:
    with torch.device("meta"):
        network = nn.Linear(3, 2)
    load(network, WEIGHTS, nothing_fits)
    network(torch.ones(1, 3)).sum().backward()
    assert network.weight.grad is not None
