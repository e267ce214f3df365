"""Every example in the client's documentation runs, against a real server with the default models."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import sightline.client
from sightline import AsyncClient, Client
from sightline.client.halves import call, stream
from sightline.demo.__main__ import photos
from tests.support.jobs_server import jobs_server

pytestmark = [pytest.mark.weights]

MODULES = sorted(found.name for found in pkgutil.iter_modules(sightline.client.__path__, "sightline.client."))
TASKS = (
    "benchmarks",
    "classify",
    "client",
    "datasets",
    "detect",
    "embeddings",
    "halves",
    "jobs",
    "models",
    "artifacts",
)


@pytest.fixture(scope="module")
def server(default_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "data").mkdir()
    (folder / "data" / "models").symlink_to(default_models)
    with jobs_server(folder) as running:
        yield running.url


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples name: a photo, and a folder of labelled images."""
    with Image.open(photos() / "chelsea.png") as photo:
        photo.convert("RGB").save(tmp_path / "cat.jpg", quality=95)
    for split, count in (("train", 2), ("test", 1)):
        for name in ("red", "blue"):
            folder = tmp_path / "squares" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (16, 16 + number), name).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    """Every documentation of a module that has an example; those of shared methods stand on the coroutines."""
    names = {"Client": Client, "AsyncClient": AsyncClient}
    yield from doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names)
    for kind in vars(module).values():
        if isinstance(kind, type) and kind.__module__ == module.__name__:
            for method in vars(kind).values():
                if isinstance(method, call | stream):
                    yield from doctest.DocTestFinder().find(method.awaited, globs=vars(module) | names)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, server: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_URL", server)
    told: list[str] = []
    runner = doctest.DocTestRunner()
    for example in examples(importlib.import_module(name)):
        runner.run(example, out=told.append)
    assert not told, "".join(told)
    if name.rpartition(".")[2] in TASKS:
        assert runner.tries, f"{name} has no example"
