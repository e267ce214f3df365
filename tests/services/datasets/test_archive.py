"""An uploaded archive cannot write outside of its folder, link, inflate without bound or leave names in doubt."""

import io
import random
import tarfile
import zipfile

import pytest

from services.datasets.archive import ArchiveLimits, unpack
from services.errors import Problem

SMALL = ArchiveLimits(max_entries=10, max_entry_bytes=1 << 20, max_total_bytes=4 << 20)


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries:
            bundle.writestr(name, data)
    return path


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as bundle:
        for info, data in members:
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return path


def refused(path, into, limits=SMALL):
    into.mkdir()
    with pytest.raises(Problem) as caught:
        unpack(path, into, limits)
    return caught.value.code


def test_files_arrive_and_litter_does_not(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("cat/1.png", b"x"), ("__MACOSX/cat/1.png", b""), ("cat/.DS_Store", b"")])
    assert unpack(archive, tmp_path / "out", SMALL) == ["cat/1.png"]
    assert (tmp_path / "out/cat/1.png").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../up.png", "/etc/x.png", "a/../../b.png", "..\\up.png", "C:\\x.png", "a\nb.png"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    assert refused(make_zip(tmp_path / "a.zip", [(name, b"x")]), tmp_path / "out") == "archive-path"


def test_links_and_devices_are_refused(tmp_path):
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert refused(make_tar(tmp_path / "a.tgz", [(link, b"")]), tmp_path / "out") == "archive-link"
    info = zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    assert refused(make_zip(tmp_path / "a.zip", [(info, "/etc/passwd")]), tmp_path / "out2") == "archive-link"


def test_a_bomb_is_stopped_by_what_comes_out(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [(f"{index}.png", bytes(900_000)) for index in range(9)])
    assert refused(archive, tmp_path / "out") == "archive-too-large"
    written = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert written <= SMALL.max_total_bytes


def test_names_that_differ_only_in_case_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("Cat/1.png", b"x"), ("cat/1.png", b"y")])
    assert refused(archive, tmp_path / "out") == "archive-duplicate-name"


def test_too_many_files_an_empty_one_and_no_archive_are_told_apart(tmp_path):
    many = make_zip(tmp_path / "a.zip", [(f"{index}.png", b"x") for index in range(11)])
    assert refused(many, tmp_path / "out") == "archive-too-many-files"
    assert refused(make_zip(tmp_path / "b.zip", []), tmp_path / "out2") == "archive-empty"
    (tmp_path / "c.zip").write_bytes(b"no archive at all")
    assert refused(tmp_path / "c.zip", tmp_path / "out3") == "archive-unrecognised"


def test_a_damaged_entry_is_named(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("cat/1.png", b"abc" * 1000)])
    data = bytearray(archive.read_bytes())
    data[45:50] = b"\xff\xff\xff\xff\xff"
    archive.write_bytes(data)
    assert refused(archive, tmp_path / "out") == "archive-corrupt"


@pytest.mark.parametrize("names", [("a.png", "a.png/b.png"), ("a.png/b.png", "a.png"), ("A/B.png/c", "a/b.png")])
def test_a_file_that_is_a_folder_too_is_refused(tmp_path, names):
    archive = make_zip(tmp_path / "a.zip", [(name, b"x") for name in names])
    assert refused(archive, tmp_path / "out") == "archive-duplicate-name"


def test_a_directory_of_more_entries_than_allowed_is_not_even_read(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [(f"__MACOSX/{index}", b"") for index in range(200)])
    assert refused(archive, tmp_path / "out") == "archive-too-many-files"


def test_a_damaged_zip_directory_is_told(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("cat/1.png", b"abc")])
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"PK\x01\x02", b"PK\x01\xff"))
    assert refused(archive, tmp_path / "out") == "archive-corrupt"


def test_lzma_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as bundle:
        bundle.writestr("a.png", b"x")
    assert refused(tmp_path / "a.zip", tmp_path / "out") == "archive-compression"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_arrives(tmp_path, mode):
    members = [(tarfile.TarInfo(f"cat/{index}.png"), bytes([index]) * 700 * index) for index in range(5)]
    archive = make_tar(tmp_path / "a.tar", members, mode)
    assert unpack(archive, tmp_path / "out", SMALL) == [f"cat/{index}.png" for index in range(5)]
    for index, (_, data) in enumerate(members):
        assert (tmp_path / f"out/cat/{index}.png").read_bytes() == data


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_that_is_cut_or_damaged_is_refused(tmp_path, mode):
    noise = random.Random(0).randbytes(300_000)
    archive = make_tar(tmp_path / "a.tar", [(tarfile.TarInfo("a.png"), noise), (tarfile.TarInfo("b.png"), noise)], mode)
    data = bytearray(archive.read_bytes())
    archive.write_bytes(data[: len(data) // 2])
    assert refused(archive, tmp_path / "out") in ("archive-corrupt", "archive-unrecognised")
    data[200_000:200_040] = bytes(40)
    archive.write_bytes(data)
    assert refused(archive, tmp_path / "out2") in ("archive-corrupt", "archive-unrecognised")


def test_a_tar_header_of_any_size_takes_no_memory(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"comment": "x" * (5 << 20)}
    assert refused(make_tar(tmp_path / "a.tgz", [(info, b"x")]), tmp_path / "out") == "archive-corrupt"


def test_a_chain_of_tar_headers_is_refused(tmp_path):
    header = tarfile.TarInfo("h")
    header.type = tarfile.XHDTYPE
    archive = make_tar(tmp_path / "a.tgz", [(header, b"")] * 5000)
    assert refused(archive, tmp_path / "out") in ("archive-corrupt", "archive-unrecognised")


def test_what_a_tar_skips_is_counted_too(tmp_path):
    litter = [(tarfile.TarInfo(f"__MACOSX/{index}"), bytes(4 << 20)) for index in range(4)]
    assert refused(make_tar(tmp_path / "a.tgz", litter), tmp_path / "out") == "archive-too-large"
    folders = [(tarfile.TarInfo("d"), b"") for _ in range(200)]
    for info, _ in folders:
        info.type = tarfile.DIRTYPE
    assert refused(make_tar(tmp_path / "b.tgz", folders), tmp_path / "out2") == "archive-too-many-files"


def test_a_tar_name_that_is_no_unicode_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as bundle:
        bundle.addfile(tarfile.TarInfo("caf\xe9.png"), io.BytesIO(b""))
    assert refused(tmp_path / "a.tar", tmp_path / "out") == "archive-path"
