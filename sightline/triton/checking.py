"""Whether what a tritonserver would be told of a model is true: its configuration, its card, its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.catalog.card import Card
from models.repository.reading import CONFIG, MODEL, Installed, installed
from models.repository.triton_config import config_pbtxt
from services.errors import Kind, Problem
from services.runtime.onnx.session import open_session
from services.settings import Settings


@dataclass(frozen=True, slots=True)
class Checked:
    """One model; ``problems`` are why it would not be served right, empty when it would be."""

    name: str
    versions: tuple[str, ...]
    problems: tuple[str, ...]
    served: bool = True
    """False for a pipeline: it has no weights, and the gateway runs it."""

    @property
    def ok(self) -> bool:
        return not self.problems


def check(settings: Settings, names: list[str] | None = None) -> list[Checked]:
    """Every model of the repository, or those named. Raises ``model-not-found`` and ``triton-client-missing``."""
    _schema()
    there = installed(settings.models_dir)
    known = sorted({one.name for one in there})
    for name in names or []:
        if name not in known:
            raise Problem(
                Kind.NOT_FOUND,
                "model-not-found",
                "There is no such model",
                f"{settings.models_dir} has no model {name!r}.",
                remedy="`sightline models list` shows what there is.",
            )

    return [_check(settings, name, [one for one in there if one.name == name]) for name in names or known]


def _check(settings: Settings, name: str, versions: list[Installed]) -> Checked:
    numbers = tuple(one.version for one in versions)
    latest = versions[-1]
    if latest.card is None:
        return Checked(name, numbers, (f"{name}/{latest.version}/card.json: {latest.problem}",))
    config = latest.folder.parent / CONFIG
    if not (latest.folder / MODEL).is_file():
        stray = (f"{name}/{CONFIG} is there although there is no {MODEL}: remove it.",) if config.exists() else ()
        return Checked(name, numbers, stray, served=False)
    problems = list(_of_config(config, latest.card))
    for one in versions:
        problems += _of_version(settings, one, latest.card)
    return Checked(name, numbers, tuple(problems))


def _of_config(file: Path, card: Card) -> Iterator[str]:
    """The file as Triton reads it, against the one that the card makes."""
    shown = f"{card.name}/{CONFIG}"
    try:
        text = file.read_text()
    except OSError as error:
        yield f"{shown} cannot be read: {error.strerror}. `sightline triton check --fix` writes it."
        return

    try:
        found = _parsed(text)
    except ValueError as error:
        yield f"{shown} cannot be parsed: {error}. `sightline triton check --fix` writes it again."
        return

    batching = found.get("dynamic_batching", {})
    for name in ("priority_levels", "default_queue_policy", "priority_queue_policy"):
        if batching.get(name):
            yield f"{shown}: dynamic_batching.{name} makes requests wait for half a second; the gateway has priorities."

    wanted = _parsed(config_pbtxt(card))
    different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if different:
        yield f"{shown} is not what its card makes, in {', '.join(different)}: `sightline triton check --fix`."


def _of_version(settings: Settings, one: Installed, latest: Card) -> Iterator[str]:
    """The card against the ONNX file, as the engine reads it; and against the latest, as Triton is told of one only."""
    if one.card is None:
        yield f"{one.name}/{one.version}/card.json: {one.problem}"
        return
    if (one.card.inputs, one.card.outputs) != (latest.inputs, latest.outputs):
        yield (
            f"{one.name}/{one.version} has another signature than version {latest.version}, under which Triton would "
            "serve it: import it as a model of its own."
        )
    try:
        open_session(one.folder, one.card, settings)
    except Problem as problem:
        yield problem.detail


def _parsed(text: str) -> dict[str, Any]:
    """The text as Triton's own schema reads it; raises ``ValueError``."""
    from google.protobuf import json_format, text_format

    try:
        message = text_format.Parse(text, _schema().ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def _schema() -> Any:
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise Problem(
            Kind.UNAVAILABLE,
            "triton-client-missing",
            "Triton's client is not installed",
            "It has the schema of configurations.",
            remedy="pip install 'sightline[triton]'",
        ) from error
    return model_config_pb2
