"""Long work: a data set is uploaded, a batch job and a fine-tune run with progress, and the new model answers."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import orjson
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from sightline.demo.stage import Stage, Step, Wrong, check, ok

ARCHIVE = Path(__file__).resolve().parents[3] / "examples" / "data" / "clothing-mini.zip"
JOB_SECONDS = 300.0
ENDED = ("succeeded", "failed", "cancelled")


def upload(stage: Stage) -> None:
    """Five classes of clothes, as a zip of class folders."""
    with ARCHIVE.open("rb") as body:
        headers = {"content-type": "application/zip"}
        answer = stage.http.post("/v1/datasets", params={"name": "clothes"}, content=body.read(), headers=headers)
    dataset = ok(answer, 201).json()
    stage.say(f"{dataset['name']}: {', '.join(dataset['classes'])}; images: {dataset['counts']}")
    check(dataset["counts"] == {"train": 50, "test": 30}, f"50 and 30 images were sent, counted: {dataset['counts']}")
    check(dataset["problem_count"] == 0, f"the set has no flaws, reported: {dataset['problems']}")


def batch(stage: Stage) -> None:
    """Thirty photos as lines of a file, answered in order."""
    photos = _test_photos()
    lines = [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/classify",
            "body": {"model": "efficientnet-lite2", "image": base64.b64encode(data).decode(), "top_k": 1},
        }
        for name, data in photos.items()
    ]
    content = b"\n".join(orjson.dumps(line) for line in lines)
    sent = ok(stage.http.post("/v1/artifacts", params={"name": "photos.jsonl"}, content=content), 201).json()
    job = run_job(stage, "batch", {"input": f"artifact:{sent['id']}"})
    check(job["result"]["succeeded"] == len(lines), f"every line has an answer, the result says {job['result']}")
    [results] = [made for made in job["artifacts"] if made["name"] == "results.jsonl"]
    rows = [orjson.loads(line) for line in ok(stage.http.get(results["url"])).content.splitlines()]
    check([row["custom_id"] for row in rows] == list(photos), "answers are in the order of the lines")
    shown = [row for row in rows if "/shoes/" in row["custom_id"]][:3]
    for row in shown:
        best = row["response"]["body"]["results"][0]["predictions"][0]
        stage.say(f"{row['custom_id']}: {best['label']} ({best['score']:.0%})")

    stage.say(f"and {len(rows) - len(shown)} more, in the order of the lines")


def finetune(stage: Stage) -> None:
    """A head on the frozen image encoder, started from the class names, tuned, exported, live."""
    job = run_job(stage, "finetune", {"dataset": "clothes", "model": "efficientnet-lite2", "name": "my-clothes"})
    scores = job["result"]["scores"]
    stage.say(f"{job['result']['model']} version {job['result']['version']}: {scores}")
    check(scores["test accuracy"] >= 0.8, f"the test accuracy is {scores['test accuracy']:.0%}, 80 % were expected")


def answer(stage: Stage) -> None:
    """The fine-tuned model through the same door as every other."""
    photos = _test_photos()
    chosen = [next(name for name in photos if f"/{label}/" in name) for label in ("shoes", "hat", "pants")]
    images = [base64.b64encode(photos[name]).decode() for name in chosen]
    body = {"model": "my-clothes", "images": images, "top_k": 2}
    results = ok(stage.http.post("/v1/classify", json=body)).json()["results"]
    for name, result in zip(chosen, results, strict=True):
        best = result["predictions"][0]
        stage.say(f"{name}: {best['label']} ({best['score']:.0%})")
    right = sum(f"/{result['predictions'][0]['label']}/" in name for name, result in zip(chosen, results, strict=True))
    check(right >= 2, f"at least two of three are right, {right} are")


def _test_photos() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(ARCHIVE.read_bytes())) as bundle:
        return {name: bundle.read(name) for name in sorted(bundle.namelist()) if name.startswith("test/")}


def run_job(stage: Stage, kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Submit a job and follow it to its end with a bar. Raises :class:`Wrong` unless it succeeds."""
    job: dict[str, Any] = ok(stage.http.post("/v1/jobs", json={"kind": kind, "parameters": parameters}), 202).json()
    end = time.monotonic() + JOB_SECONDS
    columns = (TextColumn("    {task.description:<28}"), BarColumn(28), MofNCompleteColumn())
    with Progress(*columns, console=stage.console, transient=not stage.console.is_terminal) as bar:
        task = bar.add_task("queued", total=None)
        while job["state"] not in ENDED:
            if time.monotonic() > end:
                raise Wrong(f"the {kind} job did not end within {JOB_SECONDS:g} s: {job['progress']}")
            time.sleep(0.2)
            job = ok(stage.http.get(f"/v1/jobs/{job['id']}")).json()
            progress = job["progress"]
            if progress["total"]:
                bar.update(task, completed=progress["step"] or 0, total=progress["total"])
            bar.update(task, description=progress["message"] or job["state"])

    if job["state"] != "succeeded":
        raise Wrong(f"the {kind} job {job['state']}: {job['error']}")

    seconds = job["finished_at"] - job["created_at"]
    stage.say(Text(f"{kind} job {job['id']} succeeded in {seconds:.1f} s", "dim"))
    return job


STEPS = (
    Step("A labelled data set is uploaded and checked", upload),
    Step("A batch job classifies its test photos", batch),
    Step("A job fine-tunes a model on it", finetune),
    Step("The fine-tuned model answers", answer),
)
