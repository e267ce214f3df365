"""Jobs as people see them: a line of a table, a page, a progress bar until the end."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from sightline.cli.output import console, print_json, size

if TYPE_CHECKING:
    from rich.text import Text

    from sightline.client import Client, Job, JobEvent

STYLES = {"queued": "dim", "running": "cyan", "succeeded": "green", "failed": "bold red", "cancelled": "yellow"}


def watch_to_end(client: Client, job_id: str, json: bool, *, show: bool = False) -> Job:
    """Follow a job; with ``show`` print it at the end. Exits with code 1, the job printed, unless it succeeds."""
    if json:
        for event in client.jobs.events(job_id):
            print_json(asdict(event))
    else:
        _draw_progress(client, job_id)

    job = client.jobs.get(job_id)
    if not json and (show or job.state != "succeeded"):
        print_job(job)
    if job.state != "succeeded":
        raise typer.Exit(1)
    return job


def _draw_progress(client: Client, job_id: str) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[message]}"),
    )
    with Progress(*columns, console=console(errors=True)) as bars:
        bar = bars.add_task("queued", total=None, amount="", message="")
        for event in client.jobs.events(job_id):
            data = event.data
            if event.event == "progress":
                step, total = data.get("step"), data.get("total")
                so_far = f"{step:,} of {total:,}" if step is not None and total else ""
                bars.update(bar, completed=step or 0, total=total, amount=so_far, message=data.get("message") or "")
            elif event.event == "state":
                bars.update(bar, description=data["state"])
            elif event.event == "log":
                bars.console.print(event_line(event))


def print_job(job: Job) -> None:
    """A job with what it was asked, how far it is, and what it made."""
    from rich.text import Text

    out = console()
    ran = f", ran {took(job)}" if job.started_at else ""
    tries = f", attempt {job.attempt}" if job.attempt > 1 else ""
    out.print(Text.assemble((job.id, "bold"), f"  {job.kind}  ", (job.state, STYLES[job.state]), f"{ran}{tries}"))
    if not job.ended and (so_far := amount(job)):
        out.print(f"  {so_far}  {job.progress.message or ''}")

    for name, value in (job.result or {}).items():
        out.print(f"  {name}: {value}")
    if job.error:
        out.print(Text(f"  {job.error.get('title')}: {job.error.get('detail', '')}", "red"))
        if job.error.get("remedy"):
            out.print(Text(f"  {job.error['remedy']}", "bold"))
    for artifact in job.artifacts:
        out.print(Text.assemble(f"  {artifact.name}  ", (f"{size(artifact.size)}, {artifact.reference}", "dim")))


def event_line(event: JobEvent) -> Text | None:
    """An event for people; progress is left to the bar."""
    from rich.text import Text

    data = event.data
    clock = time.strftime("%H:%M:%S ", time.localtime(event.at))
    match event.event:
        case "state":
            why = f"  {data['reason']}" if data.get("reason") else ""
            why += f"  {data['error'].get('detail', '')}" if data.get("error") else ""
            return Text.assemble((clock, "dim"), (data["state"], STYLES.get(data["state"], "")), why)
        case "log":
            style = {"warning": "yellow", "error": "red"}.get(data.get("level", ""), "")
            return Text.assemble((clock, "dim"), (str(data.get("message", "")), style))
        case "metric":
            step = f"step {data['step']}  " if data.get("step") is not None else ""
            numbers = [f"{name} {_number(value)}" for name, value in data["metrics"].items()]
            return Text.assemble((clock, "dim"), step, "  ".join(numbers))
    return None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def amount(job: Job) -> str:
    """Return how far a job is: ``3 of 12``."""
    step, total = job.progress.step, job.progress.total
    if step is None:
        return ""
    return f"{step:,} of {total:,}" if total else f"{step:,}"


def took(job: Job) -> str:
    """Return how long a job ran, or has run so far."""
    if job.started_at is None:
        return ""
    return _span((job.finished_at or time.time()) - job.started_at)


def ago(at: float) -> str:
    """A Unix time as the span between it and now."""
    return f"{_span(time.time() - at)} ago"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
