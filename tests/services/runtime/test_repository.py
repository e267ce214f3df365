"""The repository shows what is there, follows no name out of its folder, and names what is wrong with a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.errors import Kind, Problem
from services.runtime.repository import Repository
from services.runtime.version_policy import LATEST, VersionPolicy
from tests.support import tiny_models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_models.add_adder(tmp_path)
    for version in ("2", "10"):
        tiny_models.add_adder(tmp_path, version=version)
    tiny_models.add_classifier(tmp_path)
    return tmp_path


def _problem(call: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value


def test_names_and_versions_are_sorted_and_versions_by_number(root: Path) -> None:
    repository = Repository(root)
    assert repository.names() == ["tiny-adder", "tiny-classifier"]
    assert repository.versions("tiny-adder") == ["1", "2", "10"]
    assert repository.card("tiny-adder", "10").version == "10"


def test_what_is_no_model_is_not_shown(root: Path) -> None:
    (root / ".tiny-adder.writing" / "1").mkdir(parents=True)
    (root / "Upper" / "1").mkdir(parents=True)
    (root / "no-versions" / "latest").mkdir(parents=True)
    (root / "zero" / "0").mkdir(parents=True)
    (root / "padded" / "01").mkdir(parents=True)
    (root / "a-file").write_text("")
    (root / "tiny-adder" / "3").symlink_to(root / "tiny-adder" / "2")
    (root / "linked").symlink_to(root / "tiny-adder")
    repository = Repository(root)
    assert repository.names() == ["tiny-adder", "tiny-classifier"]
    assert repository.versions("tiny-adder") == ["1", "2", "10"]
    assert _problem(lambda: repository.folder("linked", "1")).code == "model-not-found"
    assert _problem(lambda: repository.folder("tiny-adder", "3")).code == "version-not-found"


def test_repository_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert Repository(tmp_path / "nothing").names() == []


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "a/b", "../x", "x\0y", "tiny-adder/1", "/etc", "TINY", "x" * 65, "tiny adder", "tiny-adder\n"],
)
def test_hostile_names_are_just_not_found(root: Path, name: str) -> None:
    problem = _problem(lambda: Repository(root).folder(name, "1"))
    assert (problem.kind, problem.code) == (Kind.NOT_FOUND, "model-not-found")
    assert Repository(root).versions(name) == []


@pytest.mark.parametrize("version", ["..", "0", "01", "-1", "1/..", "1\n", "9" * 40, "", "latest", "\u0661"])
def test_hostile_versions_are_just_not_found(root: Path, version: str) -> None:
    problem = _problem(lambda: Repository(root).folder("tiny-adder", version))
    assert (problem.kind, problem.code) == (Kind.NOT_FOUND, "version-not-found")


def _change_card(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda card: card.pop("licence"), "licence: Field required"),
        (lambda card: card["inputs"][0].update(datatype="FP8"), "inputs.0.datatype"),
        (lambda card: card["batching"].update(max_batch_size=0), "batching.max_batch_size"),
        (lambda card: card.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda card: card.update(name="other"), "name and version say other/1, the folder says tiny-adder/1"),
    ],
)
def test_invalid_card_is_refused_naming_file_and_field(
    root: Path, change: Callable[[dict[str, object]], None], named: str
) -> None:
    _change_card(root / "tiny-adder" / "1", change)
    problem = _problem(lambda: Repository(root).card("tiny-adder", "1"))
    assert problem.code == "model-invalid"
    assert problem.detail.startswith("tiny-adder/1/card.json")
    assert named in problem.detail
    assert problem.remedy
    assert str(root) not in problem.detail


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_card_that_is_no_card_is_refused(root: Path, content: bytes) -> None:
    (root / "tiny-adder/1/card.json").write_bytes(content)
    assert _problem(lambda: Repository(root).card("tiny-adder", "1")).code == "model-invalid"


def test_missing_or_linked_card_is_refused(root: Path) -> None:
    card = root / "tiny-adder/1/card.json"
    card.rename(root / "elsewhere.json")
    assert "No such file" in _problem(lambda: Repository(root).card("tiny-adder", "1")).detail
    card.symlink_to(root / "elsewhere.json")
    assert "plain file" in _problem(lambda: Repository(root).card("tiny-adder", "1")).detail


def test_changed_card_is_read_anew(root: Path) -> None:
    repository = Repository(root)
    assert repository.card("tiny-adder", "1").title == "tiny-adder"
    _change_card(root / "tiny-adder/1", lambda card: card.update(title="a longer title"))
    assert repository.card("tiny-adder", "1").title == "a longer title"


def test_whole_version_passes_verification(root: Path) -> None:
    Repository(root).verify("tiny-classifier", "1")


def test_changed_byte_is_found(root: Path) -> None:
    model = root / "tiny-classifier/1/model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    problem = _problem(lambda: Repository(root).verify("tiny-classifier", "1"))
    assert problem.code == "model-damaged"
    assert "tiny-classifier/1/model.onnx has sha256" in problem.detail


def test_missing_file_is_found(root: Path) -> None:
    (root / "tiny-classifier/1/labels.txt").unlink()
    assert "labels.txt is missing" in _problem(lambda: Repository(root).verify("tiny-classifier", "1")).detail


def test_file_that_the_card_does_not_know_is_found(root: Path) -> None:
    (root / "tiny-classifier/1/weights.bin").write_bytes(b"x")
    assert "weights.bin is not among" in _problem(lambda: Repository(root).verify("tiny-classifier", "1")).detail


def test_link_in_place_of_a_file_is_found(root: Path) -> None:
    labels = root / "tiny-classifier/1/labels.txt"
    labels.rename(root / "labels.txt")
    labels.symlink_to(root / "labels.txt")
    assert "not a plain file" in _problem(lambda: Repository(root).verify("tiny-classifier", "1")).detail


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname"])
def test_card_cannot_name_a_file_outside(root: Path, name: str) -> None:
    _change_card(root / "tiny-adder/1", lambda card: card.update(files={name: "0" * 64}))
    assert "outside" in _problem(lambda: Repository(root).verify("tiny-adder", "1")).detail


def test_policies_choose_versions() -> None:
    available = ["1", "2", "10"]
    assert LATEST.choose(available) == ["10"]
    assert VersionPolicy("latest", count=2).choose(available) == ["2", "10"]
    assert VersionPolicy("all").choose(available) == available
    assert VersionPolicy("specific", versions=("10", "1", "7")).choose(available) == ["1", "10"]
    assert LATEST.choose([]) == []


@pytest.mark.parametrize(
    "policy", [LATEST, VersionPolicy("all"), VersionPolicy("latest", 3), VersionPolicy("specific", versions=("1", "4"))]
)
def test_policy_survives_its_document(policy: VersionPolicy) -> None:
    assert VersionPolicy.parse(json.loads(json.dumps(policy.document()))) == policy


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "all",
        {"all": {}, "latest": {}},
        {"latest": {"num_versions": 0}},
        {"latest": {"num_versions": True}},
        {"specific": {"versions": []}},
        {"specific": {"versions": ["../1"]}},
        {"specific": {"versions": [1.5]}},
        {"specific": None},
        {"newest": {}},
    ],
)
def test_nonsense_policy_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match=r"polic|must|latest|specific"):
        VersionPolicy.parse(document)
