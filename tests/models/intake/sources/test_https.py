"""Downloads over HTTP: resumed, bounded, and patient only so far."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import SourceError
from models.intake.sources import https
from models.intake.sources.https import download
from models.progress import silent
from tests.support.file_server import file_server

BODY = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https.time, "sleep", lambda seconds: None)


def test_broken_connection_is_resumed_where_it_broke(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server:
        server.die_after = [300_000, 200_000]
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent)
    assert (tmp_path / "part").read_bytes() == BODY
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for _, _, wanted in server.requests if wanted]
    assert len(starts) == 2 and 0 < starts[0] <= 300_000 < starts[1] <= 500_000


def test_part_of_an_earlier_call_is_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BODY[:1000])
    with file_server(weights=BODY) as server:
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent)
    assert server.requests == [("GET", "/weights", "bytes=1000-")]
    assert (tmp_path / "part").read_bytes() == BODY


def test_whole_part_needs_no_request(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BODY)
    with file_server() as server:
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent)
    assert not server.requests


def test_server_without_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server:
        server.ranges = False
        server.die_after = [400_000]
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent)
    assert (tmp_path / "part").read_bytes() == BODY


def test_server_that_keeps_breaking_is_given_up_with_the_part_kept(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server:
        server.die_after = [10_000] * 9
        with pytest.raises(SourceError, match="could not be fetched") as refusal:
            download(server.url("/weights"), tmp_path / "part", len(BODY), silent, attempts=3)
    assert len(server.requests) == 3
    assert 0 < (tmp_path / "part").stat().st_size <= 30_000
    assert "pull again" in refusal.value.remedy


def test_file_longer_than_pinned_is_refused_before_it_is_all_here(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server, pytest.raises(SourceError, match="longer than the pinned 5000 bytes"):
        download(server.url("/weights"), tmp_path / "part", 5000, silent)
    assert (tmp_path / "part").stat().st_size == 0


def test_overload_is_tried_again_and_absence_is_not(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server:
        server.status = [503, 429]
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent)
        assert len(server.requests) == 3
        with pytest.raises(SourceError, match="HTTP 404"):
            download(server.url("/nothing"), tmp_path / "other", 10, silent)
        assert len(server.requests) == 4


def test_deadline_ends_a_download_that_would_go_on(tmp_path: Path) -> None:
    with file_server(weights=BODY) as server, pytest.raises(SourceError, match="deadline"):
        download(server.url("/weights"), tmp_path / "part", len(BODY), silent, deadline=0.0)


def test_progress_reaches_the_size(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with file_server(weights=BODY) as server:
        download(
            server.url("/weights"), tmp_path / "part", len(BODY), lambda _, done, total: told.append((done, total))
        )
    assert told[-1] == (len(BODY), len(BODY)) and told == sorted(told)
