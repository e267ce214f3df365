"""Which model, adapted how, is best on the clothes that were uploaded: a benchmark job, a leaderboard and a plot."""

from __future__ import annotations

from services.evaluation.protocols import protocol
from services.settings import Settings
from sightline.client import Client
from sightline.client.benchmarks import Standing
from sightline.demo.stage import Stage, Step, check, ok
from sightline.demo.steps.jobs import run_job

SUITE = "dataset:clothes"
PHOTOS, DRAWINGS = "photo-zero-shot", "unicl-pocket"
PROTOCOLS = ("zero-shot", "linear-probe", "linear-probe-language")
SHOTS, SEEDS = (4, 8), (0, 1, 2)
RATES = {"learning_rate": 1e-2, "weight_decay": 1e-4}
"""Given, since a search would try some eighty in each of the runs."""
PLOT = "shots.png"


def benchmark(stage: Stage) -> None:
    """Two models by three protocols, with few images of each class, each drawn three times."""
    stage.say(f"{PHOTOS} was made for photos, {DRAWINGS} for drawings; clothes are photos")
    parameters = {
        "suite": SUITE,
        "models": [PHOTOS, DRAWINGS],
        "protocols": list(PROTOCOLS),
        "shots": list(SHOTS),
        "seeds": list(SEEDS),
        **RATES,
    }
    job = run_job(stage, "benchmark", parameters)
    check(not job["result"]["errors"], f"every unit has a result, the job says {job['result']['errors']}")
    with Client(stage.url) as client:
        standings = client.leaderboard(SUITE).standings

    stage.say("right answers on 30 test photos, with standard errors; shots are training photos of each class")
    _show(stage, standings)
    [plot] = [made for made in job["artifacts"] if made["name"] == PLOT]
    path = Settings().data_dir / "demo" / PLOT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ok(stage.http.get(plot["url"])).content)
    stage.say(f"the same as a plot: {path}")
    lines = len(PROTOCOLS[1:]) * len(SHOTS) + 1
    check(len(standings) == 2 * lines, f"{2 * lines} lines were measured, the leaderboard has {len(standings)}")
    check(standings[0].model == PHOTOS, f"the model for photos wins, the first is {standings[0].model}")


def _show(stage: Stage, standings: tuple[Standing, ...]) -> None:
    """A line a way of working, best first."""
    told = [
        (
            f"{line.place}.",
            line.model,
            protocol(line.protocol).title,
            f"{line.shots} shots" if line.shots else "no shots",
            f"{100 * line.average:5.1f} % ± {100 * line.stderr:4.1f}",
            f"{line.trainable_parameters:,.0f} numbers trained",
        )
        for line in standings
    ]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]

    for line in told:
        stage.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


STEPS = (Step("A benchmark job finds the best model and the best way to adapt it", benchmark),)
