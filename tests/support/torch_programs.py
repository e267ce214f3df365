"""Programs of the tests for the torch worker: one with gradients, one with a growing cache, and some that misbehave."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from models.catalog.card import Batching, Card, Engine, TensorSpec
from models.programs import Arrays, Program, Steps
from tests.support import tiny_models

PROGRAMS = {
    name: f"tests.support.torch_programs:{name}" for name in ("latent", "tokens", "echo", "greedy", "hang", "dying")
}
LATENT, TARGET, VOCABULARY, WIDTH = 6, 10, 17, 8


def mlp(seed: int = 0) -> nn.Sequential:
    """``(B, LATENT)`` to ``(B, TARGET)``."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, TARGET))


class Latent:
    """Optimises a latent a particle: ``z (B, 6)``, ``target (B, 10)``, ``steps (B, 1) int64`` to ``z`` and ``loss``.

    Particles attract each other to their mean, so that a batch that was cut gives other answers.
    """

    joins = False

    def __init__(self, network: nn.Module, pause: float = 0.0) -> None:
        self.network = network.requires_grad_(False)
        self.pause = pause

    def run(self, inputs: Arrays, previews: bool) -> Steps:
        z = torch.from_numpy(inputs["z"]).clone().requires_grad_()
        target = torch.from_numpy(inputs["target"])
        optimiser = torch.optim.SGD([z], lr=0.05)
        loss = torch.zeros(len(z))
        for _ in range(int(inputs["steps"].max())):
            optimiser.zero_grad()
            loss = (self.network(z) - target).square().sum(-1) + 0.1 * (z - z.mean(0)).square().sum(-1)
            loss.sum().backward()
            optimiser.step()
            time.sleep(self.pause)
            yield {"z": z.detach().numpy()} if previews else None
        return {"z": z.detach().numpy(), "loss": loss.detach().numpy()}


class Tokens:
    """Writes ``count (B, 1) int64`` tokens after ``prompt (B, 1) int64``, by attention over a cache that grows."""

    joins = True

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.table = weights["table"]
        self.batches: list[int] = []

    def run(self, inputs: Arrays, previews: bool) -> Steps:
        if inputs["prompt"].max() >= VOCABULARY:
            raise ValueError(f"prompt: a token is not below {VOCABULARY}")
        token = torch.from_numpy(inputs["prompt"])[:, 0]
        cache = torch.zeros(len(token), 0, WIDTH)
        written = [token[:, None]]
        for _ in range(int(inputs["count"].max())):
            row = self.table[token]
            cache = torch.cat([cache, row[:, None]], 1)
            attention = torch.softmax(torch.einsum("bd,bld->bl", row, cache), -1)
            context = torch.einsum("bl,bld->bd", attention, cache)
            token = ((context + 0.5 * row.roll(1, -1)) @ self.table.T).argmax(-1)
            written.append(token[:, None])
            yield {"tokens": token[:, None].numpy()} if previews else None
        rows = torch.full((len(token), 1), len(token))
        return {"tokens": torch.cat(written, 1).numpy(), "together": rows.numpy()}


class Misbehaving:
    """``steps (B, 1) int64`` to ``y (B, 1)``: takes memory or time."""

    joins = False

    def __init__(self, what: str) -> None:
        self.what = what

    def run(self, inputs: Arrays, previews: bool) -> Steps:
        y = inputs["steps"].astype("float32")
        held = []
        for step in range(int(inputs["steps"].max())):
            if self.what == "greedy":
                held.append(torch.ones(1 << 24))  # 64 MiB
            elif self.what == "hang":
                _hang(120.0)
            yield {"y": y + step} if previews else None
        return {"y": y}


class Echo:
    """Gives back what it got, of every element type, in one step."""

    joins = False

    def run(self, inputs: Arrays, previews: bool) -> Steps:
        yield None
        return {f"out_{name.removeprefix('in_')}": array for name, array in inputs.items()}


def latent(folder: Path, card: Card, device: str) -> Latent:
    network = mlp(seed=99)
    weights = load_file(folder / "weights.safetensors", device=device)
    pause = float(weights.pop("pause", torch.zeros(())))
    network.load_state_dict(weights)
    return Latent(network, pause)


def tokens(folder: Path, card: Card, device: str) -> Tokens:
    return Tokens(load_file(folder / "weights.safetensors", device=device))


def echo(folder: Path, card: Card, device: str) -> Echo:
    return Echo()


def greedy(folder: Path, card: Card, device: str) -> Misbehaving:
    return Misbehaving("greedy")


def hang(folder: Path, card: Card, device: str) -> Misbehaving:
    return Misbehaving("hang")


def dying(folder: Path, card: Card, device: str) -> Misbehaving:
    os._exit(9)


def _hang(seconds: float) -> None:
    """A step that nothing interrupts."""
    time.sleep(seconds)


# Versions of a repository


def add_latent(root: Path, name: str = "tiny-flow", *, seed: int = 0, pause: float = 0.0, **fields: Any) -> Path:
    """``pause`` seconds a step."""
    weights = {**mlp(seed).state_dict(), "pause": torch.tensor(pause)}
    inputs = (_spec("z", "FP32", LATENT), _spec("target", "FP32", TARGET), _spec("steps", "INT64", 1))
    outputs = (_spec("z", "FP32", LATENT), TensorSpec(name="loss", datatype="FP32", shape=(-1,)))
    return _write(root, name, "latent", weights, inputs, outputs, fields)


def add_tokens(root: Path, name: str = "tiny-writer", *, seed: int = 0, **fields: Any) -> Path:
    torch.manual_seed(seed)
    weights = {"table": torch.randn(VOCABULARY, WIDTH)}
    inputs = (_spec("prompt", "INT64", 1), _spec("count", "INT64", 1))
    outputs = (_spec("tokens", "INT64", -1), _spec("together", "INT64", 1))
    return _write(root, name, "tokens", weights, inputs, outputs, fields)


def add_misbehaving(root: Path, program: str, **fields: Any) -> Path:
    inputs, outputs = (_spec("steps", "INT64", 1),), (_spec("y", "FP32", 1),)
    return _write(root, f"tiny-{program}", program, {}, inputs, outputs, fields)


def add_echo(root: Path, name: str = "tiny-torch-echo", **fields: Any) -> Path:
    kinds = tuple(tiny_models.ELEMENT)
    inputs = tuple(_spec(f"in_{kind.lower()}", kind, -1) for kind in kinds)
    outputs = tuple(_spec(f"out_{kind.lower()}", kind, -1) for kind in kinds)
    return _write(root, name, "echo", {}, inputs, outputs, fields)


def _spec(name: str, datatype: Any, width: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=(-1, width))


def _write(
    root: Path,
    name: str,
    program: str,
    weights: dict[str, Tensor],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    fields: dict[str, Any],
) -> Path:
    defaults: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "batching": Batching(max_batch_size=32),
        "engine": Engine(name="torch", program=program),
    }
    files = {"weights.safetensors": save(weights)} if weights else {"note.txt": b"no weights"}
    return tiny_models.write(root, tiny_models.card(name, **(defaults | fields)), files)


def in_process(program: Program, inputs: Arrays) -> list[Arrays]:
    """What a program yields, and last what it returns, without any worker."""
    found: list[Arrays] = []
    steps = program.run(inputs, True)
    while True:
        try:
            part = next(steps)
        except StopIteration as end:
            return [*found, end.value]
        assert part is not None
        found.append({name: array.copy() for name, array in part.items()})
