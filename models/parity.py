"""Numeric parity with the reference implementations: a fixture, what was compared, and how far off it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import ModelError

Config = dict[str, Any]
"""A fixture's ``config.json`` as it stands: the reference's own hyper-parameters under the reference's own names."""

DEFAULT_ATOL = 1e-5
DEFAULT_RTOL = 1e-4


@dataclass(frozen=True, slots=True)
class Comparison:
    """One tensor: its largest absolute error, and whether every element is within ``atol + rtol * |expected|``."""

    name: str
    error: float
    atol: float
    rtol: float
    ok: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All comparisons of one fixture."""

    fixture: str
    kind: str
    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """True when something was compared and nothing is beyond tolerance."""
        return bool(self.comparisons) and all(comparison.ok for comparison in self.comparisons)

    def text(self) -> str:
        """A table for people, one tensor a line."""
        width = max((len(comparison.name) for comparison in self.comparisons), default=0)
        lines = [f"{self.fixture} ({self.kind}): {'ok' if self.ok else 'FAILED'}"]
        for comparison in self.comparisons:
            verdict = "ok" if comparison.ok else "FAILED"
            lines.append(
                f"  {comparison.name:<{width}}  error {comparison.error:.1e}  atol {comparison.atol:.0e}"
                f"  rtol {comparison.rtol:.0e}  {verdict}{'  ' + comparison.note if comparison.note else ''}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Fixture:
    """A folder with ``config.json``, ``weights.safetensors`` and ``io.safetensors``, or one JSON file.

    A folder of several cases has a ``meta.json`` in place of the config, which names a file for each of them.
    """

    path: Path
    config: Config
    weights: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    expected: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Fixture:
        """Read a folder or a JSON file; raises ``OSError``, or ``ValueError`` on one that is damaged."""
        meta = path / "meta.json"
        several = meta.is_file() and not (path / "config.json").is_file()
        config = json.loads((path if path.is_file() else meta if several else path / "config.json").read_bytes())
        if not isinstance(config, dict):
            raise ValueError(f"{path} is no fixture: its JSON is no object")
        if path.is_file() or several:
            return Fixture(path, config)

        io = read_tensors(path / "io.safetensors")
        return Fixture(
            path,
            config,
            read_tensors(path / "weights.safetensors"),
            {name.removeprefix("input."): tensor for name, tensor in io.items() if name.startswith("input.")},
            {name: tensor for name, tensor in io.items() if not name.startswith("input.")},
        )

    def compare(self, outputs: Mapping[str, Tensor]) -> list[Comparison]:
        """Every expected tensor against ``outputs``; one that is not there fails."""
        tolerance = self.config.get("suggested_tolerance") or self.config.get("tolerance") or {}
        rtol, atol = float(tolerance.get("rtol", DEFAULT_RTOL)), float(tolerance.get("atol", DEFAULT_ATOL))
        atols = tolerance.get("atol_per_tensor", {})
        return [
            compare(name, outputs.get(name), expected, float(atols.get(name, atol)), rtol)
            for name, expected in self.expected.items()
        ]

    def compare_manifest(self, network: nn.Module) -> list[Comparison]:
        """Names, shapes and types of ``network`` against the published ``keys``; an error counts what differs."""
        theirs = {name: (tuple(shape), dtype) for name, shape, dtype in self.config["keys"]}
        ours = {
            name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in network.state_dict().items()
        }
        differing = [name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)]
        note = f"{len(theirs)} keys" + (f", differing: {', '.join(sorted(differing)[:5])}" if differing else "")
        parameters = sum(parameter.numel() for parameter in network.parameters())
        off = parameters - int(self.config["n_parameters"])

        return [
            Comparison("keys", float(len(differing)), 0.0, 0.0, not differing, note),
            Comparison("parameters", float(abs(off)), 0.0, 0.0, off == 0, f"{parameters:,} parameters"),
        ]


@dataclass(frozen=True, slots=True)
class FixtureKind:
    """A sort of fixture: how its config shows itself, and the function that builds what it describes and compares."""

    name: str
    recognises: Callable[[Config], bool]
    check: Callable[[Fixture], list[Comparison]]


class UnknownFixture(ModelError):
    """No kind recognises the fixture, or the one that does cannot compute it."""


def check_fixture(path: Path, kinds: Sequence[FixtureKind]) -> Report:
    """Every tensor of a fixture, by the first of ``kinds`` that recognises it.

    Raises :class:`UnknownFixture`, ``OSError``, ``ValueError`` on a fixture that cannot be read, or a checkpoint's
    error when weights do not fit.
    """
    fixture = Fixture.read(path)
    kind = next((kind for kind in kinds if kind.recognises(fixture.config)), None)
    if kind is None:
        known = ", ".join(kind.name for kind in kinds)
        raise UnknownFixture(f"{path} is no fixture of a known kind ({known})")

    try:
        return Report(path.name, kind.name, tuple(kind.check(fixture)))
    except (KeyError, TypeError) as error:
        raise UnknownFixture(f"{path} looks like {kind.name}, but its config or inputs lack {error}") from error
    except (RuntimeError, AttributeError, IndexError) as error:  # what torch says of inputs that do not fit a network
        raise UnknownFixture(f"{path} looks like {kind.name}, but cannot be computed: {error}") from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, none where there is no file; ``ValueError`` for one that is damaged."""
    if not file.exists():
        return {}
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def compare(name: str, actual: Tensor | None, expected: Tensor, atol: float, rtol: float) -> Comparison:
    """``actual`` against ``expected`` element by element; integers must be equal."""
    if actual is None:
        return Comparison(name, float("inf"), atol, rtol, False, "not computed")
    if actual.shape != expected.shape:
        return Comparison(name, float("inf"), atol, rtol, False, f"{tuple(actual.shape)} != {tuple(expected.shape)}")
    if not expected.is_floating_point():
        atol = rtol = 0.0
    got, want = actual.detach().double(), expected.double()
    error = (got - want).abs()
    ok = bool((error <= atol + rtol * want.abs()).all())  # a NaN is within nothing
    return Comparison(
        name, float(torch.nan_to_num(error, nan=float("inf")).max()) if error.numel() else 0.0, atol, rtol, ok
    )
