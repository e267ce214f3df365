"""A data directory that the version before made opens, answers as it did there, and is worked on further."""

from __future__ import annotations

import base64
import json
import math
import re
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.app import create_app
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.keys import KeyStore
from tests.before.make import colours
from tests.support.asgi import client
from tests.support.jobs import run_job
from tests.support.server import serving
from tests.support.serving import eventually

HERE = Path(__file__).parent
TOLD: dict[str, Any] = json.loads((HERE / "answers.json").read_text())
JOBS: dict[str, str] = TOLD["jobs"]

OF_THE_MOMENT = {"request_id", "statistics"}
"""Fields that say when, or how often, something was asked."""
MAKER = re.compile(r"\b(job|key)_[0-9A-Z]{26}\b")


@pytest.fixture
def before(tmp_path: Path) -> Settings:
    """Settings over a copy of the directory; keys are asked for, since it has some."""
    with tarfile.open(HERE / "data-directory.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return Settings(data_dir=tmp_path / "data", log_level="warning", port=0, job_heartbeat=0.2)


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOLD['keys'].get(key, 'sl_nobody')}"}


@asynccontextmanager
async def opened(settings: Settings, key: str = "user") -> AsyncIterator[httpx.AsyncClient]:
    """Today's platform over the directory, and a client with one of its keys."""
    async with client(create_app(settings), timeout=60, headers=headers(key)) as http:
        yield http


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """What is missing or other in a new answer; more fields are fine, and so is another processor's rounding."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            if name in OF_THE_MOMENT or (isinstance(value, str) and "/card/" in where and MAKER.search(value)):
                continue  # who made a model is private since
            if name not in new:
                yield f"{where}/{name} is gone"
            else:
                yield from differences(value, new[name], f"{where}/{name}")
    elif where == "/data" and isinstance(old, list) and isinstance(new, list) and all("id" in one for one in old):
        known = {one["id"]: one for one in new}  # what a later version brings besides is new, not different
        for index, one in enumerate(old):
            yield from differences(one, known.get(one["id"]), f"{where}/{index}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where} has {len(new)} entries instead of {len(old)}"
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{where}/{index}")
    elif re.fullmatch(r"/data/\d+/embedding", where) and isinstance(old, str) and isinstance(new, str):
        yield from differences(vector(old), vector(new), where)
    elif isinstance(old, float) and isinstance(new, int | float):
        if not math.isclose(old, new, rel_tol=1e-5, abs_tol=1e-6):
            yield f"{where} is {new} instead of {old}"
    elif old != new:
        yield f"{where} is {str(new)[:200]!r} instead of {str(old)[:200]!r}"


def vector(encoded: str) -> list[float]:
    return np.frombuffer(base64.b64decode(encoded), "<f4").astype(float).tolist()


async def test_every_question_has_the_answer_that_it_had(before: Settings) -> None:
    found = []
    async with opened(before) as http:
        for asked in TOLD["asked"]:
            answer = await http.request(
                asked["method"],
                asked["path"],
                json=asked.get("body"),
                headers=headers(asked["key"]) | asked.get("headers", {}),
            )
            new = answer.text if isinstance(asked["answer"], str) else answer.json()
            what = f"{asked['key']}: {asked['method']} {asked['path']}"
            if answer.status_code != asked["status"]:
                found.append(f"{what}: {answer.status_code} instead of {asked['status']}: {answer.text[:300]}")
            else:
                found += [f"{what}: {one}" for one in differences(asked["answer"], new)]
    assert not found, "\n".join(found)


async def test_what_the_administrator_took_out_of_service_stays_out_until_it_is_loaded(before: Settings) -> None:
    body = {
        "model": "tiny-predicted",
        "image": next(asked["body"]["image"] for asked in TOLD["asked"] if "image" in asked.get("body", {})),
        "labels": ["a cat", "a car"],
    }
    async with opened(before, "admin") as http:
        assert (await http.get("/v1/models/tiny-text")).json()["state"] != "READY"
        assert (await http.post("/v1/classify", json=body)).status_code == 503
        assert (await http.post("/v1/models/tiny-text/load")).json()["state"] == "READY"
        assert (await http.post("/v1/classify", json=body)).status_code == 200
        assert (await http.post("/v1/models/tiny-adder/unload")).json()["state"] != "READY"
    async with opened(before, "admin") as http:
        assert (await http.get("/v2/models/tiny-adder/ready")).status_code != 200
        assert (await http.post("/v1/classify", json=body)).status_code == 200


@pytest.mark.slow
def test_jobs_that_waited_or_were_stopped_half_way_are_done(before: Settings, tmp_path: Path) -> None:
    with serving(before, tmp_path) as server:
        services = JobServices.open(before.model_copy(update={"gateway_url": server.url}))
        try:
            assert run_job(services, JOBS["interrupted"]) == "succeeded"
            assert run_job(services, JOBS["queued"]) == "succeeded"
        finally:
            services.close()
        with httpx.Client(base_url=server.url, headers=headers("user"), timeout=60) as http:
            batch = http.get(f"/v1/jobs/{JOBS['interrupted']}").json()
            lines = http.get(f"/v1/jobs/{JOBS['interrupted']}/artifacts/results.jsonl").text.splitlines()
            tuned = http.get(f"/v1/jobs/{JOBS['queued']}").json()
            eventually(lambda: serves(http, "my-colours", "2"))
    assert batch["result"]["succeeded"] == len(lines) == len(batch["parameters"]["input"])
    ids = [json.loads(line)["response"]["request_id"] for line in lines]
    assert ids == [f"{JOBS['interrupted']}-{number}" for number in range(1, len(lines) + 1)]
    assert (tuned["result"]["model"], tuned["result"]["version"]) == ("my-colours", "2")


@pytest.mark.slow
def test_models_and_benchmarks_are_worked_on_further(before: Settings, tmp_path: Path) -> None:
    rates = {"learning_rate": 0.05, "weight_decay": 1e-4, "epochs": 2, "init": "random"}
    tune = {"dataset": "colours", "model": "my-colours", "method": "bitfit", "name": "my-colours", **rates}
    with serving(before, tmp_path) as server:
        services = JobServices.open(before.model_copy(update={"gateway_url": server.url}))
        try:
            with httpx.Client(base_url=server.url, headers=headers("user"), timeout=60) as http:
                submitted = [
                    http.post("/v1/jobs", json={"kind": "finetune", "parameters": tune}),
                    http.post(f"/v1/jobs/{JOBS['benchmark']}/promote", json={"name": "my-best"}),
                    http.post(f"/v1/jobs/{JOBS['cancelled']}/retry"),
                ]
                for answer in submitted:
                    assert answer.status_code == 202, answer.text
                    assert run_job(services, answer.json()["id"]) == "succeeded"
                eventually(lambda: serves(http, "my-colours", "2") and serves(http, "my-best", "1"))
                assert http.delete(f"/v1/jobs/{JOBS['failed']}").status_code == 200
        finally:
            services.close()


def serves(http: httpx.Client, name: str, version: str) -> bool:
    """Whether a model is ready in a version; gateways follow what a job asked for at their next request."""
    model = http.get(f"/v1/models/{name}").json()
    return (model["state"], model["version"]) == ("READY", version)


async def test_a_name_that_a_key_had_taken_is_still_that_keys(before: Settings) -> None:
    """Its owner stands in the note of an old card, and nowhere else."""
    tune = {"dataset": "colours", "model": "tiny-encoder", "name": "my-colours", "init": "random"}
    async with opened(before, "stranger") as http:
        upload = await http.post(
            "/v1/datasets",
            params={"name": "colours"},
            content=colours(),
            headers={"Content-Type": "application/zip"},
        )
        assert upload.status_code == 201, upload.text
        refused = await http.post("/v1/jobs", json={"kind": "finetune", "parameters": tune})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model-name-taken")
        for name in ("my-pair", "my-pair-text"):
            refused = await http.post("/v1/jobs", json={"kind": "finetune", "parameters": tune | {"name": name}})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model-name-taken")


async def test_a_revoked_key_opens_nothing_any_more(before: Settings) -> None:
    services = JobServices.open(before)
    KeyStore(services.engine).revoke(TOLD["owners"]["user"])
    services.close()
    async with opened(before) as http:
        assert (await http.get("/v1/models")).status_code == 401
