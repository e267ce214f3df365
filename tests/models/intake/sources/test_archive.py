"""Members out of archives: by exact name, within the pinned size, with the pinned hash."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from models.catalog.lock import Member
from models.errors import HashMismatch, SourceError
from models.intake.sources.archive import Format, extract

CONTENT = b"weights " * 1000


def _member(path: str | None = "pkg/weights.bin", content: bytes = CONTENT, **changes: object) -> dict[str, Member]:
    fields = {"name": "w", "path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return {"w": Member.model_validate(fields | changes)}


def _archive(folder: Path, form: Format) -> Path:
    path = folder / f"archive.{form}"
    if form == "none":
        path.write_bytes(CONTENT)
    elif form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("pkg/weights.bin", CONTENT)
            packed.writestr("../escape", b"no")
    else:
        with tarfile.open(path, "w:gz") as packed_tar:
            info = tarfile.TarInfo("pkg/weights.bin")
            info.size = len(CONTENT)
            packed_tar.addfile(info, io.BytesIO(CONTENT))
            link = tarfile.TarInfo("pkg/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed_tar.addfile(link)
    return path


@pytest.mark.parametrize("form", ["none", "zip", "tar"])
def test_member_comes_out_whole_and_nothing_else_does(tmp_path: Path, form: Format) -> None:
    out = tmp_path / "out"
    out.mkdir()
    extract(_archive(tmp_path, form), form, _member(), out)
    assert (out / "w").read_bytes() == CONTENT
    assert [path.name for path in out.iterdir()] == ["w"] and not (tmp_path / "escape").exists()


@pytest.mark.parametrize("form", ["none", "zip", "tar"])
def test_byte_range_is_cut_out(tmp_path: Path, form: Format) -> None:
    extract(_archive(tmp_path, form), form, _member(content=CONTENT[100:350], bytes=(100, 350)), tmp_path)
    assert (tmp_path / "w").read_bytes() == CONTENT[100:350]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_other_bytes_are_refused_with_both_hashes(tmp_path: Path, form: Format) -> None:
    wrong = "0" * 64
    with pytest.raises(HashMismatch) as refusal:
        extract(_archive(tmp_path, form), form, _member(sha256=wrong), tmp_path)
    assert wrong in str(refusal.value) and hashlib.sha256(CONTENT).hexdigest() in str(refusal.value)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_absent_member_is_named(tmp_path: Path, form: Format) -> None:
    with pytest.raises(SourceError, match="no member 'pkg/other'"):
        extract(_archive(tmp_path, form), form, _member("pkg/other"), tmp_path)


def test_link_in_a_tarball_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no regular file"):
        extract(_archive(tmp_path, "tar"), "tar", _member("pkg/link"), tmp_path)


def test_member_longer_than_pinned_is_not_unpacked_further(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("pkg/weights.bin", bytes(64 << 20))
    with pytest.raises(SourceError, match="longer than the pinned 8000 bytes"):
        extract(bomb, "zip", _member(), tmp_path)
    assert (tmp_path / "w").stat().st_size == 8000


def test_member_shorter_than_pinned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="500 bytes shorter"):
        extract(_archive(tmp_path, "zip"), "zip", _member(size=len(CONTENT) + 500), tmp_path)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_damaged_archive_is_refused(tmp_path: Path, form: Format) -> None:
    path = _archive(tmp_path, form)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SourceError, match="damaged"):
        extract(path, form, _member(), tmp_path)
