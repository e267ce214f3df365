"""Pulling: once, whole, by one process at a time, and honest about what is missing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.catalog.card import Card, Pipeline
from models.catalog.catalog import Catalog, Entry
from models.catalog.lock import HttpsSource
from models.catalog.releases import Copy, Release, releases
from models.errors import HashMismatch, ModelError, SourceError
from models.families import FAMILIES, Row
from models.intake.sources import https
from models.progress import silent
from models.pull import makes, pull, verify
from models.repository.reading import RepositoryError, installed
from models.repository.writer import write_version
from tests.support.file_server import FileServer, file_server

WEIGHTS = b"weights" * 1000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setitem(FAMILIES, "test", Row("tests.support.counting_builder"))
    with file_server(weights=WEIGHTS, licence=b"MIT") as running:
        yield running


def _source(server: FileServer, sha256: str | None = None) -> HttpsSource:
    digest = sha256 or hashlib.sha256(WEIGHTS).hexdigest()
    return HttpsSource.model_validate(
        {
            "kind": "https",
            "url": server.url("/weights"),
            "sha256": digest,
            "size": len(WEIGHTS),
            "members": [
                {"name": "weights", "sha256": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)},
                {"name": "LICENSE", "sha256": hashlib.sha256(b"wei").hexdigest(), "size": 3, "bytes": [0, 3]},
            ],
            "licence": {"spdx": "Apache-2.0", "member": "LICENSE"},
        }
    )


def _entry(name: str, log: Path, requires: tuple[str, ...] = (), title: str = "", **options: Any) -> Entry:
    card = {
        "name": name,
        "task": "embed-text",
        "family": "test",
        "title": title or name,
        "description": "",
        "text": {"max_length": 8},
        "licence": {"spdx": "Apache-2.0", "file": "LICENSE"},
        "provenance": [{"source": "http", "sha256": "0"}],
    }
    return Entry.model_validate(
        {"build": "counting", "options": {"log": str(log), **options}, "sources": ["thing"], "requires": requires}
        | {"card": card}
    )


class Place:
    """A repository, a cache and a catalog of counting models."""

    def __init__(self, root: Path, server: FileServer) -> None:
        self.repository, self.cache, self.log = root / "models", root / "cache", root / "log"
        self.server = server

    def catalog(self, *entries: Entry, sha256: str | None = None) -> Catalog:
        return Catalog({entry.card.name: entry for entry in entries}, {"thing": _source(self.server, sha256)})

    def entry(self, name: str = "tiny", **changes: Any) -> Entry:
        return _entry(name, self.log, **changes)

    def pull(self, catalog: Catalog, name: str = "tiny", **how: Any) -> Card:
        return pull(name, self.repository, self.cache, silent, catalog=catalog, **how)

    @property
    def builds(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def left(self) -> list[str]:
        hidden = (path.name for path in self.repository.iterdir() if path.name.startswith("."))
        return [name for name in hidden if not name.endswith(".lock")]


@pytest.fixture
def place(tmp_path: Path, server: FileServer) -> Place:
    return Place(tmp_path, server)


def test_pulled_model_is_whole_with_its_licence_beside(place: Place) -> None:
    card = place.pull(place.catalog(place.entry()))
    folder = place.repository / "tiny" / "1"
    assert set(card.files) == {"model.onnx", "tokenizer.json", "LICENSE", "LICENSE.Apache-2.0.txt"}
    assert (folder / "model.onnx").read_bytes() == WEIGHTS and (folder / "LICENSE").read_bytes() == b"wei"
    assert verify(place.repository, "tiny") == card and place.left() == []


def test_pulling_again_does_nothing_and_needs_no_network(place: Place) -> None:
    catalog = place.catalog(place.entry())
    first = place.pull(catalog)
    assert place.pull(catalog) == first and place.builds == ["tiny"] and len(place.server.requests) == 1


def test_damaged_model_is_made_again_from_the_cache(place: Place) -> None:
    catalog = place.catalog(place.entry())
    place.pull(catalog)
    damaged = place.repository / "tiny/1/model.onnx"
    damaged.write_bytes(WEIGHTS[:-1])
    with pytest.raises(RepositoryError, match=r"model\.onnx has sha256"):
        verify(place.repository, "tiny")
    place.pull(catalog)
    assert damaged.read_bytes() == WEIGHTS and len(place.server.requests) == 1


def test_changed_catalog_entry_and_force_make_it_again(place: Place) -> None:
    place.pull(place.catalog(place.entry()))
    assert place.pull(place.catalog(place.entry(title="New"))).title == "New"
    place.pull(place.catalog(place.entry(title="New")), force=True)
    assert place.builds == ["tiny"] * 3


def test_requirements_are_pulled_first_and_once(place: Place) -> None:
    top = place.entry("top", requires=("eyes", "words"))
    catalog = place.catalog(top, place.entry("eyes"), place.entry("words"))
    place.pull(catalog, "top")
    place.pull(catalog, "top")
    assert place.builds == ["eyes", "words", "top"]


def test_failed_export_leaves_no_model_and_the_old_one_in_place(place: Place) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        place.pull(place.catalog(place.entry(fail=True)))
    assert installed(place.repository) == [] and place.left() == []
    card = place.pull(place.catalog(place.entry()))
    with pytest.raises(RuntimeError):
        place.pull(place.catalog(place.entry(fail=True, title="New")))
    assert verify(place.repository, "tiny") == card and place.left() == []


def test_other_bytes_than_pinned_leave_nothing(place: Place) -> None:
    with pytest.raises(HashMismatch):
        place.pull(place.catalog(place.entry(), sha256="0" * 64))
    assert installed(place.repository) == [] and place.builds == []


def test_model_that_promises_a_file_it_does_not_get_is_refused(place: Place) -> None:
    entry = place.entry()
    card = entry.card.model_copy(update={"licence": entry.card.licence.model_copy(update={"file": "COPYING"})})
    with pytest.raises(ModelError, match=r"licence\.file of tiny names COPYING"):
        place.pull(place.catalog(entry.model_copy(update={"card": card})))
    assert installed(place.repository) == []


def test_imported_model_of_the_same_name_is_not_overwritten(place: Place) -> None:
    entry = place.entry()
    origin = entry.card.provenance[0].model_copy(update={"source": "import:mine.onnx"})
    mine = entry.card.model_copy(update={"provenance": (origin,)})
    write_version(place.repository, mine, {"model.onnx": b"mine"})
    with pytest.raises(RepositoryError, match="that you imported"):
        place.pull(place.catalog(entry))
    assert (place.repository / "tiny/1/model.onnx").read_bytes() == b"mine"


def test_without_torch_the_remedy_is_named_before_anything_is_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    with pytest.raises(ModelError, match="needs torch, which is not installed") as refusal:
        pull("efficientnet-lite2", place.repository, place.cache)
    assert "make setup" in refusal.value.remedy and "torch==2.13.0" in refusal.value.remedy
    assert not place.cache.exists() and installed(place.repository) == []


def test_model_that_is_not_there_cannot_be_verified(place: Place) -> None:
    with pytest.raises(RepositoryError, match="no model 'tiny'"):
        verify(place.repository, "tiny")


def _pull_in_a_process(root: Path, entry: Entry, source: HttpsSource, barrier: Any, answers: Any) -> None:
    FAMILIES["test"] = Row("tests.support.counting_builder")
    barrier.wait()
    catalog = Catalog({"tiny": entry}, {"thing": source})
    answers.put(pull("tiny", root / "models", root / "cache", catalog=catalog))


def test_two_pulls_at_once_build_once_and_agree(place: Place, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = (tmp_path, place.entry(seconds=0.3), _source(place.server), barrier, answers)
    both = [context.Process(target=_pull_in_a_process, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    cards = [answers.get(timeout=60) for _ in both]
    for process in both:
        process.join(30)
    assert cards[0] == cards[1] == verify(place.repository, "tiny")
    assert place.builds == ["tiny"] and len(place.server.requests) == 1


def test_killed_pull_leaves_no_half_model_and_does_not_block_the_next(place: Place, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(1), context.Queue()
    arguments = (tmp_path, place.entry(seconds=60), _source(place.server), barrier, answers)
    process = context.Process(target=_pull_in_a_process, args=arguments)
    process.start()
    half = place.repository / ".tiny.writing" / "work" / "half"
    for _ in range(600):
        if half.exists():
            break
        process.join(0.05)
    assert half.exists()
    process.kill()
    process.join(30)
    assert installed(place.repository) == []
    place.pull(place.catalog(place.entry()))
    assert verify(place.repository, "tiny") and place.left() == []


def test_a_pipeline_written_before_parts_were_pinned_is_pinned_without_building_it_again(place: Place) -> None:
    entry = place.entry("pair")
    pipeline = Pipeline(kind="dual-encoder", parts={"image": "eyes@1", "text": "words@1"})
    catalog = place.catalog(entry.model_copy(update={"card": entry.card.model_copy(update={"pipeline": pipeline})}))
    new = place.pull(catalog, "pair")
    file = place.repository / "pair" / "1" / "card.json"
    old = json.loads(file.read_text())
    old["pipeline"] = {"kind": "dual-encoder", "image_model": "eyes", "text_model": "words", "data": None}
    file.write_text(json.dumps(old))
    assert Card.read(file.parent).pipeline.parts == {"image": ("eyes", None), "text": ("words", None)}
    assert place.pull(catalog, "pair") == new == verify(place.repository, "pair")
    assert place.builds == ["pair"]


class Published:
    """One release more, ``toy``, whose file this machine's own server has, and pulls of it."""

    def __init__(self, root: Path, server: FileServer) -> None:
        self.repository, self.cache, self.server = root / "models", root / "cache", server
        self.file = self.cache / "published" / "toy" / "toy.pth"

    def release(self, sha256: str | None = None, size: int | None = None, url: str = "") -> None:
        self.server.files["/toy.pth"] = WEIGHTS
        copy = Copy(address="https://example.org/toy.pth", status="live", naming="release", sha256=sha256, size=size)
        copy = copy.model_copy(update={"address": url or self.server.url("/toy.pth")})  # a test has no certificate
        toy = {"variant": "toy", "title": "Toy", "trained_on": "toys", "image": {"size": 8, "resize": 8}}
        found = Release.model_validate({**toy, "copies": [copy], "family": "test", "licence": {"spdx": "MIT"}})
        releases()["toy"] = found

    def pin(self, **changes: Any) -> None:
        self.release(**{"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS), **changes})

    def pull(self, **how: Any) -> Card:
        return pull("toy", self.repository, self.cache, **how)

    def served(self, name: str = "toy") -> bytes:
        verify(self.repository, name)
        return (self.repository / name / "1" / "model.onnx").read_bytes()


@pytest.fixture
def published(tmp_path: Path, server: FileServer) -> Iterator[Published]:
    yield Published(tmp_path, server)
    releases().pop("toy", None)


def test_a_pinned_checkpoint_is_fetched_once_and_served_with_its_parts(published: Published) -> None:
    published.pin()
    card = published.pull()
    assert published.served() == published.served("toy-image") == published.file.read_bytes() == WEIGHTS
    assert card.name == "toy" and card.provenance[0].source == published.server.url("/toy.pth")
    assert published.pull() == card and len(published.server.requests) == 1
    assert makes("toy", Catalog.read()) == ("toy-image", "toy")

    (published.repository / "toy-image" / "1" / "model.onnx").write_bytes(b"damaged")
    assert published.pull() == card and published.served("toy-image") == WEIGHTS
    assert len(published.server.requests) == 1 and sorted(published.file.parent.iterdir()) == [published.file]


def test_other_bytes_than_a_checkpoint_has_leave_nothing(published: Published) -> None:
    published.pin(sha256="0" * 64)
    with pytest.raises(HashMismatch, match="models/catalog/releases pins 0000"):
        published.pull()
    assert installed(published.repository) == [] and not published.file.exists()

    published.file.write_bytes(WEIGHTS)
    with pytest.raises(SourceError, match="its hosts state 0000") as refusal:
        published.pull()
    assert "delete it" in refusal.value.remedy and installed(published.repository) == []


@pytest.mark.parametrize("size", [None, len(WEIGHTS)])
def test_a_checkpoint_without_a_pin_says_what_a_person_does_and_is_taken_then(
    published: Published, size: int | None, tmp_path: Path
) -> None:
    published.release(size=size)
    with pytest.raises(SourceError, match="the file of toy is to be fetched by hand") as refusal:
        published.pull()
    told = refusal.value.remedy
    for fact in (published.server.url("/toy.pth"), "file is toy.pth", "licence MIT", f"Save it as {published.file}"):
        assert fact in told
    assert ("7,000 bytes" in told) == (size is not None)
    assert "sightline models pull toy --file PATH" in told and not published.server.requests

    (tmp_path / "mine").write_bytes(b"elsewhere")
    published.pull(file=tmp_path / "mine")
    assert published.served() == b"elsewhere" and not published.file.exists()

    published.file.write_bytes(WEIGHTS)
    published.pull()
    assert published.served() == b"elsewhere"  # what is there and undamaged is left alone
    published.pull(force=True)
    assert published.served() == WEIGHTS


def test_without_internet_the_file_can_be_brought_by_hand(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https.time, "sleep", lambda seconds: None)
    published.pin(url="http://127.0.0.1:9/toy.pth")  # nobody listens on the port of discarding
    with pytest.raises(SourceError, match="could not be fetched") as refusal:
        published.pull()
    told = refusal.value.remedy
    assert "Download http://127.0.0.1:9/toy.pth" in told and "7,000 bytes, licence MIT" in told
    (place,) = re.findall(r"Save it as (\S+)", told)
    Path(place).write_bytes(WEIGHTS)
    published.pull()
    assert published.served() == WEIGHTS


def test_a_file_is_for_checkpoints_only(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not made of a file of yours"):
        place.pull(place.catalog(place.entry()), file=tmp_path)
    assert place.builds == []


def test_an_imported_model_of_a_checkpoints_name_is_not_overwritten(published: Published, place: Place) -> None:
    published.pin()
    origin = {"source": "import:mine.onnx", "sha256": "0"}
    card = place.entry("toy").card.model_dump() | {"provenance": [origin]}
    write_version(published.repository, Card.model_validate(card), {"model.onnx": b"mine"})
    with pytest.raises(RepositoryError, match="that you imported"):
        published.pull()
    assert not published.server.requests and not published.file.exists()


@pytest.mark.weights
def test_default_models_in_the_repository_are_what_the_catalog_describes(default_models: Path) -> None:
    for name in Catalog.read().defaults:
        card = verify(default_models, name)
        assert card.model_copy(update={"files": {}}) == Catalog.read().entry(name).card
