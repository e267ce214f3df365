"""``sightline jobs``: long work on a running platform, submitted, watched and fetched from the shell."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli.job_views import STYLES, ago, amount, event_line, print_job, took, watch_to_end
from sightline.cli.options import KeyOption, UrlOption, connect
from sightline.cli.output import JsonOption, console, print_json, size, table
from sightline.cli.text_files import read_text_file

if TYPE_CHECKING:
    from sightline.client import Job

app = typer.Typer(help="Submit, watch and cancel jobs on a running platform.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id that `sightline jobs list` shows.")]


@app.command()
def submit(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="batch, finetune, pretrain, ...")],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="A parameter; JSON where it reads as JSON, else text; repeat for several.",
        ),
    ] = None,
    parameters: Annotated[
        Path | None, typer.Option("--parameters", help="A JSON file with parameters; - for standard input.")
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="A file to upload; becomes the parameter `input`.")
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 9; the larger first.", min=0, max=9)] = 0,
    webhook: Annotated[str | None, typer.Option(help="Address to tell when it has ended.")] = None,
    webhook_secret: Annotated[str | None, typer.Option(help="What signs the webhook.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it has ended; exit code 1 if it fails.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Submit a job."""
    given = _parameters(parameters, parameter or [])
    if (webhook is None) != (webhook_secret is None):
        raise typer.BadParameter("--webhook and --webhook-secret belong together")

    if input_file is not None and input_file.is_dir():
        raise typer.BadParameter(
            f"{input_file} is a folder, and a batch reads lines: `sightline datasets upload {input_file} --name NAME` "
            "and then `--set input=dataset:NAME` asks about every picture of it"
        )

    with connect(url, key) as client:
        if input_file is not None:
            given["input"] = client.jobs.upload(input_file).reference
        job = client.jobs.submit(
            kind,
            given,
            priority=priority,
            webhook={"url": webhook, "secret": webhook_secret} if webhook and webhook_secret else None,
            idempotency_key=idempotency_key,
        )
        if wait:
            watch_to_end(client, job.id, json, show=True)
        elif json:
            print_json(asdict(job))
        else:
            print(job.id)  # alone on standard output, for ID=$(sightline jobs submit ...)


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; repeat for several.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; repeat for several.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 20,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Jobs, newest first."""
    from itertools import islice

    from rich.text import Text

    with connect(url, key) as client:
        found = list(islice(client.jobs.list(states=state or (), kinds=kind or ()), limit))  # type: ignore[arg-type]
    if json:
        print_json([asdict(job) for job in found])
        return
    if not found:
        console().print("No jobs.")
        return
    rows = [
        (job.id, job.kind, Text(job.state, STYLES[job.state]), amount(job), ago(job.created_at), took(job))
        for job in found
    ]
    table(("id", "kind", "state", "progress", "submitted", "ran"), rows, right=("progress", "ran"))


@app.command()
def show(job_id: IdArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """One job: what it was asked, how far it is, what it made."""
    with connect(url, key) as client:
        job = client.jobs.get(job_id)
    if json:
        print_json(asdict(job))
    else:
        print_job(job)


@app.command()
def watch(job_id: IdArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Follow a job to its end with a progress bar; exit code 1 unless it succeeds. With --json, one event a line."""
    with connect(url, key) as client:
        watch_to_end(client, job_id, json, show=True)


@app.command()
def logs(
    job_id: IdArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """What happened to a job, line by line."""
    with connect(url, key) as client:
        found = client.jobs.events(job_id) if follow else client.jobs.history(job_id)
        for event in found:
            if json:
                print_json(asdict(event))
            elif (line := event_line(event)) is not None:
                console().print(line)


@app.command()
def cancel(job_id: IdArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """End a waiting job now; ask a running one to stop."""
    with connect(url, key) as client:
        job = client.jobs.cancel(job_id)
    _told(job, json, "cancelled" if job.ended else "stops at its next step")


@app.command()
def retry(job_id: IdArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint."""
    with connect(url, key) as client:
        job = client.jobs.retry(job_id)
    _told(job, json, "waits again")


@app.command()
def delete(job_id: IdArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Remove a job that has ended, and what it made."""
    with connect(url, key) as client:
        client.jobs.delete(job_id)
    if json:
        print_json({"id": job_id, "deleted": True})
    else:
        console().print(f"Deleted {job_id}.")


@app.command()
def download(
    job_id: IdArgument,
    name: Annotated[list[str] | None, typer.Argument(help="What to fetch; everything when absent.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path(),
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch what a job made."""
    with connect(url, key) as client:
        job = client.jobs.get(job_id)
        wanted = [job.artifact(one) for one in name] if name else list(job.artifacts)
        output.mkdir(parents=True, exist_ok=True)
        written = [client.jobs.download(artifact, output / Path(artifact.name).name) for artifact in wanted]

    if json:
        print_json([str(path) for path in written])
    else:
        for artifact, path in zip(wanted, written, strict=True):
            console().print(f"{path}  {size(artifact.size)}")


def _parameters(file: Path | None, given: list[str]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = {}
    if file is not None:
        text = sys.stdin.read() if str(file) == "-" else read_text_file(file)
        try:
            found = json.loads(text)
        except ValueError as error:
            raise typer.BadParameter(f"{file} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise typer.BadParameter(f"{file} holds no JSON object")
    for one in given:
        name, sign, text = one.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _told(job: Job, json: bool, what: str) -> None:
    if json:
        print_json(asdict(job))
    else:
        console().print(f"{job.id} {what}.")
