"""``sightline jobs`` from the shell, against a real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sightline.cli.main import app
from tests.support.jobs_server import JobsServer, jobs_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsServer]:
    with jobs_server(tmp_path_factory.mktemp("jobs")) as running:
        yield running


@pytest.fixture
def run(server: JobsServer, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SIGHTLINE_URL", server.url)
    monkeypatch.setenv("NO_COLOR", "1")
    server.working.set()

    def runs(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app, ["jobs", *arguments], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return runs


def test_a_job_is_submitted_watched_shown_and_fetched(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    job_id = run("submit", "count", "-s", "up_to=8", "--set", "pause=0.05").stdout.strip()
    assert job_id.startswith("job_")
    watched = run("watch", job_id)
    assert "succeeded" in watched.stdout and "total: 28" in watched.stdout and "numbers.txt" in watched.stdout
    assert "succeeded" in run("show", job_id).stdout
    assert json.loads(run("show", job_id, "--json").stdout)["result"] == {"total": 28, "counted": 8}
    told = run("logs", job_id).stdout
    assert "queued" in told and "running" in told and "step 5  total 10" in told
    events = [json.loads(line) for line in run("watch", job_id, "--json").stdout.splitlines()]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert "numbers.txt" in run("download", job_id, "-o", str(tmp_path)).stdout
    assert (tmp_path / "numbers.txt").read_text().split() == [str(n) for n in range(8)]
    assert job_id in run("list", "--state", "succeeded").stdout
    assert run("delete", job_id, "--json").stdout.strip() == json.dumps({"id": job_id, "deleted": True})


def test_waiting_for_a_job_that_fails_is_a_failure(run) -> None:  # type: ignore[no-untyped-def]
    told = run("submit", "fail", "-s", "how=problem", "--wait", code=1).stdout
    assert "failed" in told and "There are none." in told
    job_id = json.loads(run("list", "--kind", "fail", "--json").stdout)[0]["id"]
    assert "waits again" in run("retry", job_id).stdout


def test_a_waiting_job_is_cancelled(run, server: JobsServer) -> None:  # type: ignore[no-untyped-def]
    server.working.clear()
    job_id = json.loads(run("submit", "count", "--json", "--priority", "7").stdout)["id"]
    assert f"{job_id} cancelled." in run("cancel", job_id).stdout
    result = run("cancel", job_id, code=1)
    assert result.exception is not None and "cannot be cancelled" in str(getattr(result.exception, "remedy", ""))


def test_parameters_come_from_a_file_standard_input_and_options(run, server: JobsServer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    server.working.clear()
    file = tmp_path / "p.json"
    file.write_text('{"up_to": 5, "marks": "x"}')
    job = json.loads(run("submit", "count", "--parameters", str(file), "-s", "up_to=6", "--json").stdout)
    assert (job["parameters"]["up_to"], job["parameters"]["marks"]) == (6, "x")
    job = json.loads(run("submit", "count", "--parameters", "-", "--json", stdin='{"up_to": 4}').stdout)
    assert job["parameters"]["up_to"] == 4
    run("submit", "count", "-s", "up_to", code=2)
    run("submit", "count", "--parameters", "-", code=2, stdin="[]")
    for entry in json.loads(run("list", "--state", "queued", "--json").stdout):
        run("cancel", entry["id"])


def test_a_file_is_uploaded_as_the_input(run, server: JobsServer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    server.working.clear()
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"url": "/v1/classify", "body": {}}\n')
    job = json.loads(run("submit", "batch", "--input", str(lines), "--json").stdout)
    assert job["parameters"]["input"].startswith("artifact:art_")
    run("cancel", job["id"])
