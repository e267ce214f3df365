"""``sightline benchmark``: which model, adapted how, works best; run, looked at, compared, checked against fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.output import JsonOption, console, print_json, table

app = typer.Typer(help="Measure models and ways of adapting them on suites of data sets.", no_args_is_help=True)


@app.command()
def verify(
    fixtures: Annotated[
        Path, typer.Option("--fixtures", help="A folder with elevater_metrics.json, _splits.json or _hparam.json.")
    ],
    json: JsonOption = False,
) -> None:
    """Check metrics, splits and the search against reference numbers; exit code 1 when a case differs."""
    from services.benchmark.parity import verify as run_cases

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
