"""The repository writer: whole versions or none, and no way out of the folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from models.catalog.card import Batching, Card, Licence, Pipeline, TensorSpec
from models.repository import writer as module
from models.repository.hashing import verify_version
from models.repository.reading import RepositoryError, installed, latest, next_version, read_card
from models.repository.writer import remove, write_version

LICENCE = Licence(spdx="MIT")


def _card(name: str = "tiny", version: str = "1", title: str = "Tiny") -> Card:
    return Card(
        name=name,
        version=version,
        task="tensor",
        family="test",
        title=title,
        description="",
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 2)),),
        licence=LICENCE,
    )


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_written_version_has_every_file_and_its_hash(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"onnx")
    folder = write_version(tmp_path / "r", _card(), {"model.onnx": weights, "sub/labels.txt": b"a\nb\n"})
    assert folder == tmp_path / "r" / "tiny" / "1"
    assert (folder / "model.onnx").read_bytes() == b"onnx" and weights.exists()
    assert verify_version(folder).files.keys() == {"model.onnx", "sub/labels.txt"}
    assert 'name: "tiny"' in (folder.parent / "config.pbtxt").read_text()
    assert _names(tmp_path / "r") == ["tiny"]


def test_version_that_exists_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    write_version(tmp_path, _card(), {"model.onnx": b"one"})
    with pytest.raises(RepositoryError, match="in the repository already"):
        write_version(tmp_path, _card(), {"model.onnx": b"two"})
    assert (tmp_path / "tiny/1/model.onnx").read_bytes() == b"one"
    write_version(tmp_path, _card(title="New"), {"model.onnx": b"two"}, replace=True)
    assert verify_version(tmp_path / "tiny/1").title == "New"
    assert (tmp_path / "tiny/1/model.onnx").read_bytes() == b"two" and _names(tmp_path) == ["tiny"]


@pytest.mark.parametrize("at", ["file", "card", "sync"])
def test_writer_that_fails_leaves_the_repository_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    write_version(tmp_path, _card(), {"model.onnx": b"one"})
    real = module.store

    def store(content: Path | bytes, target: Path) -> str:
        if (at == "card") == (target.name == "card.json") and at != "sync":
            raise OSError(28, "No space left on device")
        return real(content, target)

    def no_sync(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "store", store)
    if at == "sync":
        monkeypatch.setattr(module, "sync_tree", no_sync)
    for version, replace in (("2", False), ("1", True)):
        with pytest.raises(OSError, match=r"space|Input"):
            write_version(tmp_path, _card(version=version), {"model.onnx": b"two"}, replace=replace)
    assert [(i.name, i.version) for i in installed(tmp_path)] == [("tiny", "1")]
    assert verify_version(tmp_path / "tiny/1") and _names(tmp_path) == ["tiny"]


def test_version_that_cannot_be_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_version(tmp_path, _card(), {"model.onnx": b"one"})
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.parent.name.endswith(".writing") and self.name == "1":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input"):
        write_version(tmp_path, _card(), {"model.onnx": b"two"}, replace=True)
    with pytest.raises(OSError, match="Input"):
        write_version(tmp_path, _card("other"), {"model.onnx": b"two"})
    assert verify_version(tmp_path / "tiny/1") and (tmp_path / "tiny/1/model.onnx").read_bytes() == b"one"
    assert _names(tmp_path) == ["tiny"]


def test_configuration_follows_the_newest_version(tmp_path: Path) -> None:
    def size() -> str:
        return (tmp_path / "tiny/config.pbtxt").read_text().partition("max_batch_size: ")[2].partition("\n")[0]

    for version, batch in (("1", 4), ("3", 8), ("2", 16)):
        card = _card(version=version, title=version).model_copy(update={"batching": Batching(max_batch_size=batch)})
        write_version(tmp_path, card, {"model.onnx": b""})
    assert size() == "8"
    remove(tmp_path, "tiny", "3")
    assert size() == "16"


def test_new_model_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_version(tmp_path, _card(), {"model.onnx": tmp_path / "not-there"})
    assert _names(tmp_path) == []


def test_what_a_killed_writer_left_is_ignored_and_swept(tmp_path: Path) -> None:
    (tmp_path / ".tiny.writing" / "1").mkdir(parents=True)
    (tmp_path / ".tiny.writing" / "1" / "model.onnx").write_bytes(b"half")
    assert installed(tmp_path) == []
    write_version(tmp_path, _card(), {"model.onnx": b"whole"})
    assert _names(tmp_path) == ["tiny"] and (tmp_path / "tiny/1/model.onnx").read_bytes() == b"whole"


def test_two_writers_of_one_version_are_one_after_the_other(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            write_version(tmp_path, _card(), {"model.onnx": bytes([number]) * 100_000})
            outcomes.append("written")
        except RepositoryError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 3 + ["written"] and verify_version(tmp_path / "tiny/1")


@pytest.mark.parametrize(
    "path", ["../model.onnx", "/etc/model.onnx", "a/../../b", "a\\b", "", "./a", "a//b", "a\0b", "card.json"]
)
def test_path_outside_the_version_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(RepositoryError):
        write_version(tmp_path / "r", _card(), {path: b"x"})
    assert not (tmp_path / "model.onnx").exists() and installed(tmp_path / "r") == []


def test_next_version_counts_numerically(tmp_path: Path) -> None:
    assert next_version(tmp_path, "tiny") == "1"
    for version in ("9", "10"):
        write_version(tmp_path, _card(version=version), {"model.onnx": b""})
    assert next_version(tmp_path, "tiny") == "11"
    assert latest(tmp_path, "tiny") == tmp_path / "tiny" / "10" and latest(tmp_path, "other") is None


def test_damage_is_named_file_by_file(tmp_path: Path) -> None:
    folder = write_version(tmp_path, _card(), {"model.onnx": b"onnx", "labels.txt": b"a\n"})
    (folder / "model.onnx").write_bytes(b"onnX")
    (folder / "labels.txt").unlink()
    (folder / "extra.bin").write_bytes(b"")
    with pytest.raises(RepositoryError) as refusal:
        verify_version(folder)
    said = str(refusal.value)
    assert (
        "model.onnx has sha256" in said and "labels.txt is missing" in said and "extra.bin is not on the card" in said
    )


def test_card_of_another_folder_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path, _card(), {"model.onnx": b"onnx"})
    folder.rename(tmp_path / "tiny" / "2")
    with pytest.raises(RepositoryError, match="is the card of tiny version 1"):
        read_card(tmp_path / "tiny" / "2")


def test_broken_version_is_listed_with_its_problem(tmp_path: Path) -> None:
    write_version(tmp_path, _card(), {"model.onnx": b""})
    write_version(tmp_path, _card("zebra"), {"model.onnx": b""})
    (tmp_path / "tiny/1/card.json").write_text("{")
    broken, fine = installed(tmp_path)
    assert broken.card is None and "card.json cannot be read" in broken.problem
    assert fine.card is not None and fine.name == "zebra"


def test_removed_version_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_version(tmp_path, _card(version=version, title=f"v{version}"), {"model.onnx": b""})
    remove(tmp_path, "tiny", "2")
    assert [i.version for i in installed(tmp_path)] == ["1"] and (tmp_path / "tiny/config.pbtxt").is_file()
    remove(tmp_path, "tiny", "1")
    assert _names(tmp_path) == []


def test_removed_model_is_gone_with_all_versions(tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_version(tmp_path, _card(version=version), {"model.onnx": b""})
    remove(tmp_path, "tiny")
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("part", "stays", "goes"), [("tiny@1", "1", "2"), ("tiny@2", "2", "1"), ("tiny", None, "1"), ("tiny@1", None, "2")]
)
def test_what_a_pipeline_needs_stays_and_the_pipeline_is_named(
    tmp_path: Path, part: str, stays: str | None, goes: str
) -> None:
    for version in ("1", "2"):
        write_version(tmp_path, _card(version=version), {"model.onnx": b""})
    whole = _card("whole", "3").model_copy(update={"inputs": (), "outputs": ()})
    pipeline = Pipeline.model_validate({"kind": "dual-encoder", "parts": {"image": part}})
    write_version(tmp_path, whole.model_copy(update={"pipeline": pipeline}), {})

    with pytest.raises(RepositoryError, match=f"'whole' version 3 is made of '{part}'") as refused:
        remove(tmp_path, "tiny", stays)
    assert "`sightline models remove whole`" in refused.value.remedy and "--force" in refused.value.remedy
    remove(tmp_path, "tiny", goes)
    assert [i.name for i in installed(tmp_path)] == ["tiny", "whole"]
    (left,) = {"1", "2"} - {goes}
    with pytest.raises(RepositoryError, match="is made of"):
        remove(tmp_path, "tiny", left)

    remove(tmp_path, "tiny", force=True)
    remove(tmp_path, "whole")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("name", ["..", "../outside", ".", "", "/etc", "tiny/1", ".hidden", "a\0", "tiny\n"])
def test_name_that_is_not_one_folder_is_never_removed(tmp_path: Path, name: str) -> None:
    root = tmp_path / "r"
    write_version(root, _card(), {"model.onnx": b""})
    (tmp_path / "outside").mkdir()
    with pytest.raises(RepositoryError):
        remove(root, name)
    with pytest.raises(RepositoryError):
        remove(root, "tiny", "../1")
    assert (root / "tiny/1").is_dir() and (tmp_path / "outside").is_dir()


def test_symbolic_link_is_neither_removed_nor_written_through(tmp_path: Path) -> None:
    root, outside = tmp_path / "r", tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("")
    root.mkdir()
    (root / "tiny").symlink_to(outside)
    with pytest.raises(RepositoryError):
        remove(root, "tiny")
    with pytest.raises(RepositoryError, match="symbolic link"):
        write_version(root, _card(), {"model.onnx": b""})
    assert sorted(path.name for path in outside.iterdir()) == ["keep"]


def test_model_without_an_onnx_file_has_no_triton_configuration(tmp_path: Path) -> None:
    folder = write_version(tmp_path, _card(), {"data.safetensors": b""})
    assert not (folder.parent / "config.pbtxt").exists()
