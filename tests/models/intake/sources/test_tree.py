"""Whole folders of archives: checked as one, links copied, and nothing outside of them touched."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from models.catalog.lock import Tree
from models.errors import HashMismatch, SourceError
from models.intake.sources.debian import contents
from models.intake.sources.tree import digest, extract_trees

FILES = {"a/one.png": b"1", "a/deep/two.png": b"22", "a/note.txt": b"no", "b/three.png": b"333"}
LINKS = {"a/deep/again.png": "../one.png", "a/twice.png": "deep/again.png", "a/out.png": "../b/three.png"}


def _tar(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def _tree(tmp_path: Path, expected: dict[str, bytes], **changes: object) -> Tree:
    for name, content in expected.items():
        (tmp_path / "expected" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "expected" / name).write_bytes(content)
    fields = {
        "name": "images", "path": "a", "suffix": ".png", "files": len(expected),
        "size": sum(map(len, expected.values())), "sha256": digest(tmp_path / "expected"),
    }  # fmt: skip
    return Tree.model_validate(fields | changes)


def test_folder_with_links_is_written_and_checked(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"one.png": b"1", "deep/two.png": b"22", "deep/again.png": b"1", "twice.png": b"1"})
    extract_trees(_tar(tmp_path / "x.tgz", FILES, LINKS), "tar", [tree], tmp_path / "out")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"images/one.png", "images/deep/two.png", "images/deep/again.png", "images/twice.png"}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_folder_of_a_wheel(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"one.png": b"1", "deep/two.png": b"22"})
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as packed:
        for name, content in FILES.items():
            packed.writestr(name, content)
    extract_trees(tmp_path / "x.whl", "zip", [tree], tmp_path / "out")
    assert digest(tmp_path / "out" / "images") == tree.sha256


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"one.png": b"1", "deep/two.png": b"23"})
    with pytest.raises(HashMismatch):
        extract_trees(_tar(tmp_path / "x.tgz", FILES), "tar", [tree], tmp_path / "out")


@pytest.mark.parametrize(("change", "complaint"), [({"files": 1}, "more than the pinned 1"), ({"size": 2}, "larger")])
def test_more_than_pinned_is_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    tree = _tree(tmp_path, {"one.png": b"1", "deep/two.png": b"22"}, **change)
    with pytest.raises(SourceError, match=complaint):
        extract_trees(_tar(tmp_path / "x.tgz", FILES), "tar", [tree], tmp_path / "out")


def test_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"one.png": b"1"})
    archive = _tar(tmp_path / "x.tgz", {"a/../../evil.png": b"1"})
    with pytest.raises(SourceError, match="leads out"):
        extract_trees(archive, "tar", [tree], tmp_path / "out")
    assert not list(tmp_path.rglob("evil.png"))


def test_files_of_a_debian_package(tmp_path: Path) -> None:
    inner = _tar(tmp_path / "data.tgz", FILES).read_bytes()
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.gz": inner}
    package = b"!<arch>\n"
    for name, content in members.items():
        package += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        package += b"\n" * (len(content) % 2)
    (tmp_path / "x.deb").write_bytes(package)
    assert contents(tmp_path / "x.deb", tmp_path / "data.tar").read_bytes() == inner


@pytest.mark.parametrize("content", [b"not one", b"!<arch>\n", b"!<arch>\n" + b"x" * 60])
def test_damaged_debian_package_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.deb is"):
        contents(tmp_path / "x.deb", tmp_path / "data.tar")
