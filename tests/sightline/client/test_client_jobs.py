"""``client.jobs`` and ``client.datasets`` against a real gateway: submitted once, watched to the end, fetched whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from sightline import AsyncClient, Client, JobFailed, JobTimeout
from sightline.cli.main import app as cli
from sightline.client import APIError, Progress, SightlineError
from tests.support.jobs_server import JobsServer, jobs_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsServer]:
    with jobs_server(tmp_path_factory.mktemp("jobs")) as running:
        yield running


@pytest.fixture
def client(server: JobsServer) -> Iterator[Client]:
    server.working.set()
    with Client(server.url) as opened:
        yield opened


def test_a_job_is_waited_for_with_its_progress(client: Client, tmp_path: Path) -> None:
    seen: list[Progress] = []
    job = client.jobs.submit("count", {"up_to": 12, "pause": 0.1})
    assert job.state in ("queued", "running") and not job.ended
    done = client.jobs.wait(job.id, on_progress=seen.append, timeout=60)
    assert done.result == {"total": 66, "counted": 12}
    assert seen and seen[-1].total == 12 and [p.step for p in seen] == sorted(p.step or 0 for p in seen)
    made = done.artifact("numbers.txt")
    assert client.jobs.read(made).split() == [b"%d" % n for n in range(12)]
    path = client.jobs.download(made, tmp_path / "n.txt")
    assert path.read_bytes() == client.jobs.read(made) and not path.with_name("n.txt.part").exists()
    with pytest.raises(KeyError, match=r"numbers\.txt"):
        done.artifact("other")


def test_a_failed_job_raises_with_its_reason(client: Client) -> None:
    job = client.jobs.submit("fail", {"how": "problem"})
    with pytest.raises(JobFailed, match="There are none") as failed:
        client.jobs.wait(job.id, timeout=30)
    assert failed.value.job.error is not None and failed.value.job.error["code"] == "labels-missing"
    again = client.jobs.retry(job.id)
    assert again.id == job.id
    with pytest.raises(JobFailed):
        client.jobs.wait(job.id, timeout=30)
    client.jobs.delete(job.id)


def test_waiting_ends_when_the_time_is_over(client: Client, server: JobsServer) -> None:
    server.working.clear()
    job = client.jobs.submit("count", {})
    with pytest.raises(JobTimeout):
        client.jobs.wait(job.id, timeout=0.5)
    assert client.jobs.cancel(job.id).state == "cancelled"


def test_a_submission_that_is_sent_twice_is_one_job(server: JobsServer) -> None:
    lost: list[httpx.Request] = []

    class Losing(httpx.HTTPTransport):
        """Delivers the first request and loses the answer."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and not lost:
                response.read()
                lost.append(request)
                raise httpx.RemoteProtocolError("the connection broke", request=request)
            return response

    server.working.set()
    with Client(server.url, transport=Losing()) as client:
        before = len(list(client.jobs.list()))
        job = client.jobs.submit("count", {"up_to": 1})
        assert len(list(client.jobs.list())) == before + 1
        assert lost[0].headers["idempotency-key"]
        client.jobs.wait(job.id, timeout=30)


def test_a_broken_stream_is_taken_up_where_it_stopped(server: JobsServer) -> None:
    streams: list[str] = []

    class Torn(httpx.SyncByteStream):
        def __init__(self, stream: httpx.SyncByteStream) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            for number, chunk in enumerate(self._stream):
                if number >= 2:
                    raise httpx.ReadError("torn")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    class Tearing(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.url.path.endswith("/events"):
                streams.append(request.headers["last-event-id"])
                if len(streams) <= 3:
                    assert isinstance(response.stream, httpx.SyncByteStream)
                    response.stream = Torn(response.stream)
            return response

    server.working.set()
    with Client(server.url, transport=Tearing()) as client:
        job = client.jobs.submit("count", {"up_to": 10, "pause": 0.15})
        ids = [event.id for event in client.jobs.events(job.id)]
    assert ids == list(range(1, len(ids) + 1))
    assert len(streams) >= 4 and streams == sorted(streams, key=int)


def test_a_torn_download_goes_on_where_it_stopped(server: JobsServer, tmp_path: Path) -> None:
    asked: list[str] = []

    class Torn(httpx.SyncByteStream):
        def __init__(self, stream: httpx.SyncByteStream) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in self._stream:
                yield chunk
                size += len(chunk)
                if size > 300_000:
                    raise httpx.ReadError("torn")

        def close(self) -> None:
            self._stream.close()

    class Tearing(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if "range" in request.headers:
                asked.append(request.headers["range"])
                if len(asked) < 3:
                    assert isinstance(response.stream, httpx.SyncByteStream)
                    response.stream = Torn(response.stream)
            return response

    server.working.set()
    with Client(server.url, transport=Tearing()) as client:
        job = client.jobs.wait(client.jobs.submit("write", {"bytes": 1_000_000, "pieces": 4}).id, timeout=30)
        path = client.jobs.download(job.artifact("data.bin"), tmp_path / "data.bin")
    assert path.read_bytes() == b"".join(bytes([n]) * 250_000 for n in range(4))
    assert len(asked) >= 3 and asked[0] == "bytes=0-" and asked[1] != "bytes=0-"


def test_files_and_bytes_are_uploaded(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"x" * 600_000)
    for made, name in ((client.jobs.upload(file), "lines.jsonl"), (client.jobs.upload(b"abc", "b.txt"), "b.txt")):
        assert made.name == name and made.reference == f"artifact:{made.id}"
    assert client.jobs.upload(file).size == 600_000


def test_every_page_is_listed(client: Client, server: JobsServer) -> None:
    server.working.clear()
    ids = [client.jobs.submit("count", {}, priority=n % 10).id for n in range(120)]
    assert [job.id for job in client.jobs.list(states=["queued"])] == ids[::-1]
    assert [event.event for event in client.jobs.history(ids[0])] == ["state"]
    for job_id in ids:
        client.jobs.cancel(job_id)


async def test_the_asynchronous_client_does_the_same(server: JobsServer, tmp_path: Path) -> None:
    server.working.set()
    async with AsyncClient(server.url) as client:
        seen: list[Progress] = []
        job = await client.jobs.submit("count", {"up_to": 6, "pause": 0.1})
        done = await client.jobs.wait(job.id, on_progress=seen.append, timeout=60)
        assert done.result == {"total": 15, "counted": 6} and seen
        path = await client.jobs.download(done.artifact("numbers.txt"), tmp_path / "n.txt")
        assert path.read_bytes() == await client.jobs.read(done.artifact("numbers.txt"))
        assert job.id in [found.id async for found in client.jobs.list(kinds=["count"])]
        assert [event.id async for event in client.jobs.history(job.id)][:2] == [1, 2]
        made = await client.jobs.upload(path)
        assert made.size == path.stat().st_size
        failed = await client.jobs.submit("fail", {"how": "problem"})
        with pytest.raises(JobFailed):
            await client.jobs.wait(failed.id, timeout=30)
        server.working.clear()
        waiting = await client.jobs.submit("count", {})
        assert (await client.jobs.cancel(waiting.id)).state == "cancelled"
        assert (await client.jobs.retry(waiting.id)).state == "queued"
        await client.jobs.cancel(waiting.id)
        await client.jobs.delete(waiting.id)


def drawn(folder: Path) -> Path:
    """Two classes of plain squares, two to train on and one to test on, and a file that is no picture."""
    for split, count in (("train", 2), ("test", 1)):
        for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (16, 16 + number), colour).save(folder / split / name / f"{number}.png")
    (folder / "train" / "red" / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_folder_becomes_a_data_set(client: Client, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "set")
    with pytest.raises(APIError) as losses:
        client.datasets.upload(folder, "squares")
    assert losses.value.code == "dataset-losses"
    made = client.datasets.upload(folder, "squares", allow_losses=True)
    assert (made.name, made.classes, made.counts) == ("squares", ("blue", "red"), {"train": 4, "test": 2})
    assert made.problem_count == 1 and "broken.png" in made.problems[0]
    assert made.account is not None and made.account.layout == "folders"
    assert (made.account.files.seen, made.account.files.read) == (7, 6)
    assert made.account.files.left_out[0].examples == ("train/red/broken.png",)
    assert client.datasets.get("squares") == made and made in list(client.datasets.list())
    with pytest.raises(APIError) as refused:
        client.datasets.upload(tmp_path / "set", "squares")
    assert refused.value.status == 409
    with pytest.raises(SightlineError, match="neither a file nor a folder"):
        client.datasets.upload(tmp_path / "nothing", "other")
    client.datasets.delete("squares")
    assert "squares" not in [one.name for one in client.datasets.list()]


async def test_the_asynchronous_client_uploads_them_too(server: JobsServer, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "set"), "gztar", drawn(tmp_path / "set"))
    async with AsyncClient(server.url) as client:
        made = await client.datasets.upload(archive, "squares-too", allow_losses=True)
        assert await client.datasets.get(made.id) == made
        assert made in [one async for one in client.datasets.list()]
        await client.datasets.delete(made.id)
        assert [one async for one in client.datasets.list()] == []


def test_the_command_uploads_lists_and_removes(server: JobsServer, tmp_path: Path) -> None:
    def call(*words: str) -> str:
        result = CliRunner().invoke(cli, ["datasets", *words, "--url", server.url])
        assert result.exit_code == 0, result.output
        return result.output

    told = call("upload", str(drawn(tmp_path / "set")), "--name", "by-hand", "--allow-losses")
    assert "by-hand" in told and "broken.png" in told
    assert "read as folders" in told and "files: 7 seen, 6 read" in told
    assert "by-hand" in call("list")
    call("remove", "by-hand")
    assert "You have no data sets" in call("list")
