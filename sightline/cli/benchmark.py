"""``sightline benchmark``: which model, adapted how, works best; run, looked at, compared, checked against fixtures."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sightline.cli.benchmark_tables import print_cells, print_comparison, print_leaderboard
from sightline.cli.job_views import watch_to_end
from sightline.cli.options import KeyOption, UrlOption, connect
from sightline.cli.output import JsonOption, console, print_json, table

app = typer.Typer(help="Measure models and ways of adapting them on suites of data sets.", no_args_is_help=True)

View = Literal["score", "parameters", "shots"]
Mode = Literal["strict", "reference"]
SuiteOption = Annotated[
    str,
    typer.Option("--suite", help="A suite that `benchmark suites` lists, or dataset:NAME for a set of yours."),
]
ModeOption = Annotated[
    str, typer.Option("--mode", help="strict, or reference: as the published toolkit does it, quirks included.")
]


@app.command("run")
def run_benchmark(
    model: Annotated[list[str], typer.Option("--model", help="A model to measure; repeat for several.")],
    suite: SuiteOption = "pocket",
    dataset: Annotated[list[str] | None, typer.Option(help="Only this set of the suite; repeat for several.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="How it is measured; repeat for several.")] = None,
    shots: Annotated[list[str] | None, typer.Option(help="Images of a class, or full; repeat for several.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Each draws other images; repeat for several.")] = None,
    mode: ModeOption = "strict",
    max_trials: Annotated[int | None, typer.Option(help="Of one search at most.", min=1)] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Of the whole; what is left then is skipped.")] = None,
    test_limit: Annotated[int | None, typer.Option(help="Images to test on at most.", min=2)] = None,
    knowledge: Annotated[Path | None, typer.Option(help="A JSON file that says more of the classes.")] = None,
    predictions: Annotated[bool, typer.Option("--predictions", help="Also make ELEVATER's submission zips.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for JSON, CSV and plots.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only submit; print the job's id.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Run a benchmark, watch it, and show its results; exit code 1 unless it succeeds."""
    given: dict[str, Any] = {
        "suite": suite,
        "models": model,
        "datasets": dataset,
        "protocols": protocol,
        "shots": None if shots is None else [_shots(one) for one in shots],
        "seeds": seed,
        "mode": mode,
        "max_trials": max_trials,
        "max_seconds": max_seconds,
        "test_limit": test_limit,
        "predictions": predictions,
    }
    with connect(url, key) as client:
        if knowledge is not None:
            given["knowledge"] = client.jobs.upload(knowledge).reference

        parameters = {name: value for name, value in given.items() if value is not None}
        job = client.jobs.submit("benchmark", parameters)
        if no_wait:
            print_json({"id": job.id}) if json else print(job.id)
            return

        ended = watch_to_end(client, job.id, json)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            for artifact in ended.artifacts:
                client.jobs.download(artifact, output / Path(artifact.name).name)

        if not json:
            print_cells(ended.result or {})


@app.command()
def show(
    suite: SuiteOption = "pocket",
    view: Annotated[str, typer.Option(help="Sort by score, parameters (efficiency) or shots.")] = "score",
    mode: ModeOption = "strict",
    shots: Annotated[str | None, typer.Option(help="Only this many images of a class; 0 zero-shot, or full.")] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """The leaderboard of a suite."""
    wanted = None if shots is None else _shots(shots)
    with connect(url, key) as client:
        found = client.leaderboard(
            suite,
            view=_one_of(view, "--view", ("score", "parameters", "shots")),  # type: ignore[arg-type]
            mode=_one_of(mode, "--mode", ("strict", "reference")),  # type: ignore[arg-type]
            shots=-1 if wanted == "full" else wanted,  # type: ignore[arg-type]
        )

    if json:
        print_json(asdict(found))
    else:
        print_leaderboard(found)


@app.command()
def compare(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="A finished benchmark's id.")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="Another's; differences are right minus left.")],
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Two benchmarks, data set by data set, and what chance could have done."""
    with connect(url, key) as client:
        found = client.compare(left, right)
    if json:
        print_json(asdict(found))
    else:
        print_comparison(found)


@app.command()
def promote(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="A finished benchmark's id.")],
    name: Annotated[str, typer.Option("--name", help="What the new model is called.")],
    dataset: Annotated[str | None, typer.Option(help="Which of the benchmark's data sets it is for.")] = None,
    model: Annotated[str | None, typer.Option(help="Only among results of this model.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only among results of this protocol.")] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make the best adapted result of a benchmark a live model, and watch it come to be."""
    with connect(url, key) as client:
        made = client.jobs.promote(job_id, name, dataset=dataset, model=model, protocol=protocol)
        watch_to_end(client, made.id, json, show=True)


@app.command()
def suites(json: JsonOption = False) -> None:
    """The suites and their data sets, and the protocols, of this installation."""
    from services.evaluation import protocols
    from services.evaluation.suites import registry

    found = [registry.suite(name) for name in registry.names()]
    if json:
        print_json(
            {"suites": {own.name: [one.name for one in own.datasets] for own in found}, "protocols": protocols.names()}
        )
        return
    rows = []
    for own in found:
        for one in own.datasets:
            sizes = (f"{count:,}" for count in (len(one.classes), one.sizes.get("train", 0), one.sizes.get("test", 0)))
            rows.append((own.name, one.name, one.task, one.metric, *sizes))
    table(("suite", "data set", "task", "metric", "classes", "train", "test"), rows, right=("classes", "train", "test"))
    table(("protocol", "what it is"), [(name, protocols.protocol(name).title) for name in protocols.names()])


@app.command()
def verify(
    fixtures: Annotated[
        Path, typer.Option("--fixtures", help="A folder with elevater_metrics.json, _splits.json or _hparam.json.")
    ],
    json: JsonOption = False,
) -> None:
    """Check metrics, splits and the search against reference numbers; exit code 1 when a case differs."""
    from services.evaluation.parity import verify as run_cases

    cases = run_cases(fixtures)
    failing = [case for case in cases if not case.ok]
    if json:
        shown = [{"file": case.file, "case": case.name, "difference": case.difference} for case in failing]
        print_json({"cases": len(cases), "failed": len(failing), "failing": shown})
    else:
        files = sorted({case.file for case in cases})
        if failing:
            table(("file", "case", "what differs"), [(case.file, case.name, case.difference) for case in failing])
        else:
            per_file = [(name, f"{sum(case.file == name for case in cases)}") for name in files]
            table(("file", "cases"), per_file, right=("cases",))
        console().print(f"{len(cases) - len(failing)} of {len(cases)} cases equal the reference.")
    if failing:
        raise typer.Exit(1)


@app.command()
def boxes(
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="A COCO document with the true boxes.")],
    detections: Annotated[Path, typer.Argument(metavar="DETECTIONS", help="COCO results: a list of scored boxes.")],
    json: JsonOption = False,
) -> None:
    """COCO AP of what a detector wrote down, as the detection suites are measured. Any detector will do."""
    from services.evaluation.tasks.detection.files import score_boxes

    scores = score_boxes(annotations, detections)
    if json:
        print_json(asdict(scores))
        return
    shown = [(name, "-" if value < 0 else f"{100 * value:.1f}") for name, value in scores.statistics.items()]
    table(("measure", "percent"), shown, right=("percent",))
    per_class = [
        (name, "-" if math.isnan(value) else f"{100 * value:.1f}") for name, value in scores.categories.items()
    ]
    table(("category", "AP"), per_class, right=("AP",))


def _shots(text: str) -> int | str:
    if text == "full":
        return "full"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor full", param_hint="--shots") from None


def _one_of(text: str, option: str, names: tuple[str, ...]) -> str:
    if text not in names:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(names)}", param_hint=option)
    return text
