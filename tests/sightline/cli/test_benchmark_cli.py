"""``sightline benchmark`` from the shell: run to the end on a real gateway, shown, compared, promoted, verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.errors import ModelError
from sightline.cli.main import app
from tests.support import tiny_models
from tests.support.jobs_server import JobsServer, jobs_server

PARITY = Path(__file__).parents[2] / "parity"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsServer]:
    with jobs_server(tmp_path_factory.mktemp("jobs")) as running:
        tiny_models.add_classifier(running.services.settings.models_dir)
        running.working.set()
        yield running


@pytest.fixture
def run(server: JobsServer, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SIGHTLINE_URL", server.url)
    monkeypatch.setenv("NO_COLOR", "1")

    def runs(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["benchmark", *arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return runs


def test_a_benchmark_is_run_shown_and_compared(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    few = ("--model", "tiny-classifier", "--dataset", "textures", "--seed", "0", "--max-trials", "3")
    done = run("run", *few, "--protocol", "linear-probe", "--shots", "5", "--output", str(tmp_path))
    assert "textures" in done.stdout and "mean-per-class" in done.stdout and "linear-probe" in done.stdout
    assert {"results.json", "results.csv"} <= {path.name for path in tmp_path.iterdir()}
    run("run", *few, "--protocol", "linear-probe", "--shots", "full", "--shots", "5")
    shown = run("show").stdout
    assert "tiny-classifier" in shown and "full" in shown and "by shots: 5:" in shown
    board = json.loads(run("show", "--view", "parameters", "--shots", "full", "--json").stdout)
    assert [line["shots"] for line in board["standings"]] == [None]
    left, right = (job["id"] for job in jobs_of(run))
    compared = run("compare", left, right).stdout
    assert "textures" in compared and "Mean difference" in compared


def jobs_of(run) -> list[dict[str, str]]:  # type: ignore[no-untyped-def]
    listed = CliRunner().invoke(app, ["jobs", "list", "--kind", "benchmark", "--json"])
    found: list[dict[str, str]] = json.loads(listed.stdout)
    return found


def test_options_that_make_no_sense_are_refused(run) -> None:  # type: ignore[no-untyped-def]
    run("show", "--view", "beauty", code=2)
    run("run", "--model", "tiny-classifier", "--shots", "many", code=2)
    assert "no-such" in str(run("show", "--suite", "no-such", code=1).exception)


def test_suites_and_protocols_are_listed(run) -> None:  # type: ignore[no-untyped-def]
    listed = json.loads(run("suites", "--json").stdout)
    assert {"elevater", "odinw35", "pocket"} <= set(listed["suites"]) and "zero-shot" in listed["protocols"]
    assert "caltech-101" in run("suites").stdout


def test_a_fixture_that_differs_is_named_and_fails_the_command(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copy(PARITY / "elevater_hparam.json", tmp_path)
    assert "16 of 16 cases" in run("verify", "--fixtures", str(tmp_path)).stdout
    document = json.loads((tmp_path / "elevater_hparam.json").read_text())
    document["runs"][2]["final_wd"] *= 10
    (tmp_path / "elevater_hparam.json").write_text(json.dumps(document))
    told = run("verify", "--fixtures", str(tmp_path), code=1).stdout
    assert "search/right_edge" in told and "15 of 16 cases" in told


def test_a_fixture_that_cannot_be_read_is_named_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"cases": [')
    result = CliRunner().invoke(app, ["models", "verify", "--fixture", str(tmp_path)])
    assert result.exit_code == 1
    assert isinstance(result.exception, ModelError) and str(tmp_path) in str(result.exception)
