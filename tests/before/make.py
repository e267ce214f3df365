"""Makes ``data-directory.tar.gz`` and ``answers.json`` with a checkout of the version before, as its users would.

``python -m tests.before.make OLD [FOLDER]``: ``OLD`` has a ``.venv`` of its own. Its ``sightline`` is driven from the
outside alone, by its commands and its HTTP interface; only the tiny models are written inside it, by
:mod:`tests.before.old_models`. FOLDER is where the two files go, this one by default.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from speed.against.checkout import Checkout

HERE = Path(__file__).resolve().parent
COLOURS = {"red cat": (220, 40, 40), "green car": (40, 200, 60), "old dog": (70, 70, 210)}
RATES = {"learning_rate": 0.05, "weight_decay": 1e-4, "epochs": 6}
WORKER = "before.boot:0:1:1"
"""What stands in the database in place of processes that no longer exist."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""A part of the names of this machine's processes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.before.make", description=__doc__)
    parser.add_argument("old", type=Path, help="checkout of the version before, with .venv")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE)
    options = parser.parse_args()
    old = Checkout(options.old.resolve())
    with tempfile.TemporaryDirectory(prefix="before-") as scratch:
        data, log = Path(scratch) / "data", Path(scratch) / "log"
        told = fill(old, data, log)
        told["asked"] = answers(old, data, log, told)
        clean(data)
        check_private(data, [scratch, str(old.root), BOOT.read_text().strip()])
        pack(data, options.folder / "data-directory.tar.gz")
    write_answers(told, options.folder / "answers.json")
    return 0


def write_answers(told: dict[str, Any], target: Path) -> None:
    """JSON with one line a question, so that a new making can be compared with this one."""
    asked = ",\n".join(json.dumps(question) for question in told.pop("asked"))
    target.write_text(f'{json.dumps(told)[:-1]}, "asked": [\n{asked}\n]}}\n')


# What the directory holds


def fill(old: Checkout, data: Path, log: Path) -> dict[str, Any]:
    """Make everything; the secrets of the keys, and the ids of what was made."""
    old.run(str(HERE / "old_models.py"), "models", str(data / "models"))
    keys = {
        "admin": _key(old, data, "admin", "admin"),
        "user": _key(old, data, "user", "infer", "jobs"),
        "stranger": _key(old, data, "stranger", "infer", "jobs"),
    }
    told: dict[str, Any] = {"keys": {name: key["secret"] for name, key in keys.items()}}
    told["owners"] = {name: key["id"] for name, key in keys.items()}
    with old.serving(data, log) as at, _as(at.url, keys["user"]["secret"]) as http:
        told["dataset"] = _ok(
            http.post("/v1/datasets", params={"name": "colours"}, content=colours(), headers=_type("application/zip"))
        )["id"]
        told["jobs"] = jobs = run_jobs(http)
        old.run(str(HERE / "old_models.py"), "pair", str(data / "models"), keys["user"]["id"], jobs["finetune"])
        with _as(at.url, keys["admin"]["secret"]) as admin:
            for name in ("my-pair-image", "my-pair-text", "my-pair"):
                _ok(admin.post(f"/v1/models/{name}/load"))
            _ok(admin.post("/v1/models/tiny-text/unload"))
        # The platform stops in the middle of this one, which goes back to the queue with its checkpoint.
        lines = [_line("/v1/embeddings", model="tiny-tower", input=f"a photo of cat {n}") for n in range(LONG)]
        jobs["interrupted"] = interrupted = _submit(http, "batch", input=lines, concurrency=1, checkpoint_lines=10)
        _follow(http, interrupted, until=lambda job: (job["progress"]["step"] or 0) >= 30)
    with old.serving(data, log, SIGHTLINE_JOBS="false") as at, _as(at.url, keys["user"]["secret"]) as http:
        assert _ok(http.get(f"/v1/jobs/{interrupted}"))["state"] == "queued"
        lines = [_line("/v1/classify", model="tiny-classifier", image=picture(0))]
        jobs["cancelled"] = _submit(http, "batch", input=lines)
        _ok(http.post(f"/v1/jobs/{jobs['cancelled']}/cancel"))
        again = {"dataset": "colours", "model": "my-colours", "name": "my-colours", "init": "random", **RATES}
        jobs["queued"] = _submit(http, "finetune", **again)
    return told


LONG = 400
"""Lines of the batch that is interrupted."""


def run_jobs(http: httpx.Client) -> dict[str, str]:
    """One job of most kinds, to its end; ids by what became of each."""
    jobs = {}
    finetune = {"dataset": "colours", "model": "tiny-encoder", "name": "my-colours", "init": "random", **RATES}
    jobs["finetune"] = _follow(http, _submit(http, "finetune", method="bitfit", **finetune), "succeeded")
    lines = [_line("/v1/classify", model="my-colours", image=picture(seed), top_k=2) for seed in range(3)]
    lines.append(_line("/v1/classify", model="my-colours", image="no picture"))
    jobs["batch"] = _follow(http, _submit(http, "batch", input=lines), "succeeded")
    measured = {"suite": "dataset:colours", "models": ["tiny-open"], "seeds": [0, 1], **RATES}
    ways = ["zero-shot", "linear-probe"]
    jobs["benchmark"] = _follow(http, _submit(http, "benchmark", protocols=ways, shots=[2, 4], **measured), "succeeded")
    jobs["failed"] = _follow(http, _submit(http, "benchmark", protocols=ways[1:], shots=[13], **measured), "failed")
    return jobs


def _submit(http: httpx.Client, kind: str, **parameters: object) -> str:
    return str(_ok(http.post("/v1/jobs", json={"kind": kind, "parameters": parameters}))["id"])


def _follow(http: httpx.Client, job_id: str, state: str = "", until: Any = None) -> str:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        job = _ok(http.get(f"/v1/jobs/{job_id}"))
        if until is not None and until(job):
            assert job["state"] == "running", f"the job is over already: {job['state']}"
            return job_id
        if job["state"] in ("succeeded", "failed", "cancelled"):
            assert job["state"] == state, f"{job['kind']} {job['state']}: {job['error'] or job['result']}"
            return job_id
        time.sleep(0.02)
    raise SystemExit(f"job {job_id} takes too long")


def _line(url: str, **body: object) -> dict[str, object]:
    return {"method": "POST", "url": url, "body": body}


def _key(old: Checkout, data: Path, name: str, *scopes: str) -> dict[str, Any]:
    scope = [word for one in scopes for word in ("--scope", one)]
    arguments = ("-m", "sightline", "keys", "create", "--name", name, *scope, "--data-dir", str(data), "--json")
    made: dict[str, Any] = json.loads(old.run(*arguments))
    return made


def _as(url: str, secret: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)


def _ok(response: httpx.Response) -> dict[str, Any]:
    assert response.is_success, f"{response.request.url}: {response.text}"
    found: dict[str, Any] = response.json()
    return found


def _type(media_type: str) -> dict[str, str]:
    return {"Content-Type": media_type}


def colours() -> bytes:
    """Three classes of noisy squares as a zip of class folders: 8 to train on and 4 to test on, of each."""
    rng = np.random.default_rng(0)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for split, count in (("train", 8), ("test", 4)):
            for name, colour in COLOURS.items():
                for number in range(count):
                    pixels = np.clip(np.array(colour) + rng.normal(0, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
                    bundle.writestr(f"{split}/{name}/{number}.jpg", _encoded(pixels, "JPEG"))
    return sink.getvalue()


def picture(seed: int) -> str:
    """A 40 x 30 PNG of blocks, in base64."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return base64.b64encode(_encoded(np.kron(blocks, np.ones((10, 10, 1), np.uint8)), "PNG")).decode()


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, form, quality=85)
    return sink.getvalue()


# What the version before answers over it


def questions(told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Requests that change nothing, each with the key that sends it."""
    labels = ["a cat", "a dog", "a red apple"]

    def post(path: str, key: str = "user", **body: object) -> dict[str, Any]:
        return {"key": key, "method": "POST", "path": path, "body": body}

    def get(path: str, key: str = "user") -> dict[str, Any]:
        return {"key": key, "method": "GET", "path": path}

    def classify(model: str, **fields: object) -> dict[str, Any]:
        return post("/v1/classify", model=model, images=[picture(1), picture(2)], **fields)

    yield classify("tiny-classifier")
    yield classify("tiny-classifier", labels=["cat", "car"], top_k=1)
    yield classify("tiny-open", labels=labels)
    yield classify("tiny-open", labels=labels, templates=["one {}"], multi_label=True, threshold=0.1)
    yield classify("tiny-open", label_set="imagenet-1k", top_k=3)
    yield classify("my-pair", labels=labels)
    yield classify("my-colours")
    yield classify("tiny-predicted", labels=labels)  # its text encoder was unloaded by the administrator
    for fields in ({}, {"dimensions": 4}, {"encoding_format": "base64"}):
        yield post("/v1/embeddings", model="tiny-tower", input=["a cat", "an old dog"], **fields)
    yield post("/v1/embeddings", model="tiny-encoder", image=picture(1))
    yield post("/v1/embeddings", model="my-pair", input="a cat")
    yield post("/v1/embeddings", model="my-colours", image=picture(1))
    yield get("/v1/models")
    for name in ("tiny-open", "tiny-predicted", "my-pair", "my-colours", "tiny-text"):
        yield get(f"/v1/models/{name}")
    yield get("/v1/label-sets")
    yield get("/v1/jobs?limit=100")
    for name, job in told["jobs"].items():
        if name != "interrupted":  # whose lines would be said again
            yield get(f"/v1/jobs/{job}")
        yield {**get(f"/v1/jobs/{job}/events"), "headers": {"Accept": "application/json"}}
    yield get(f"/v1/jobs/{told['jobs']['batch']}", key="stranger")
    for job, name in (("batch", "results.jsonl"), ("finetune", "report.json"), ("benchmark", "results.csv")):
        yield get(f"/v1/jobs/{told['jobs'][job]}/artifacts/{name}")
    yield get("/v1/artifacts?limit=100")
    yield get("/v1/datasets")
    yield get(f"/v1/datasets/{told['dataset']}")
    yield get("/v1/datasets", key="stranger")
    yield get("/v1/leaderboard?suite=dataset:colours")
    yield get("/v2/models/tiny-adder")
    yield get("/v2/models/tiny-adder/config")
    yield get("/v2/models/my-colours")
    numbers = [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} for name in "ab"]
    yield post("/v2/models/tiny-adder/infer", inputs=numbers)
    yield post("/v2/repository/index")
    yield post("/v1/models/tiny-adder/unload", key="user")  # which only an administrator may
    yield post("/v1/classify", key="nobody", model="tiny-classifier", image=picture(1))


def answers(old: Checkout, data: Path, log: Path, told: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions with what the version before says. Asked twice: the second time class rows come from the disk."""
    with old.serving(data, log, SIGHTLINE_JOBS="false") as at:
        for question in questions(told):
            ask(at.url, told, question)
    with old.serving(data, log, SIGHTLINE_JOBS="false") as at:
        return [question | ask(at.url, told, question) for question in questions(told)]


def ask(url: str, told: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
    """Status and body: JSON, or text."""
    with _as(url, told["keys"].get(question["key"], "sl_nobody")) as http:
        answer = http.request(
            question["method"], question["path"], json=question.get("body"), headers=question.get("headers")
        )
    is_json = answer.headers.get("content-type", "") in ("application/json", "application/problem+json")
    return {"status": answer.status_code, "answer": answer.json() if is_json else answer.text}


# Packing


def clean(data: Path) -> None:
    """Leave out what a stopped platform does not need, and the names of this machine's processes."""
    for name in ("run", "scratch", "broker"):
        shutil.rmtree(data / name, ignore_errors=True)
    with closing(sqlite3.connect(data / "sightline.db", isolation_level=None)) as database:
        database.execute("UPDATE jobs SET worker = ? WHERE worker IS NOT NULL", (WORKER,))
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")


def check_private(data: Path, words: list[str]) -> None:
    """Refuse to pack what names this machine, in a file or inside an archive among them."""
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        contents = {path.name: path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                contents |= {name: bundle.read(name) for name in bundle.namelist()}
        for name, content in contents.items():
            found = [word for word in words if word.encode() in content]
            if found:
                raise SystemExit(f"{path.relative_to(data)} ({name}) names this machine: {found}")


def pack(data: Path, target: Path) -> None:
    """The directory as ``data/``, the same bytes for the same content."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(target, "w:gz", compresslevel=9) as archive:
        archive.add(data, "data", filter=plain)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
