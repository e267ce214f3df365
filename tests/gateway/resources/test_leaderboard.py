"""The leaderboard, comparisons and promotion over HTTP: the key's own finished benchmarks, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from gateway.app import create_app
from services.evaluation.reports.results import Record, cells
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import writing
from services.storage.tables import jobs
from tests.support.asgi import client

SETS = ("digits", "faces", "textures", "clothing")


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as opened:
        yield opened


def finished(app: FastAPI, scores: dict[str, float], *, protocol: str = "linear-probe", **more: Any) -> str:
    """A benchmark that has succeeded with one score a data set; returns its id."""
    services: JobServices = app.state.context.jobs
    records = [
        Record(name, "m", name, protocol, 5, seed, "accuracy", "linear_probe", "random", score, 0.01, 100, trainable=50)
        for name, score in scores.items()
        for seed in (0, 1)
    ]
    result = {
        "suite": "pocket",
        "mode": "strict",
        "datasets": list(scores),
        "averaged": list(scores),
        "test_limit": None,
        "cells": [asdict(cell) for cell in cells(records)],
    }
    job, _ = services.jobs.submit("anonymous", Order("benchmark", "benchmark", {}), max_queued=100)
    with writing(services.engine) as connection:
        changed = update(jobs).where(jobs.c.id == job.id).values(state="succeeded", result=result | more)
        connection.execute(changed)
    return job.id


async def test_the_leaderboard_joins_the_keys_benchmarks(app: FastAPI, http: httpx.AsyncClient) -> None:
    empty = (await http.get("/v1/leaderboard", params={"suite": "pocket"})).json()
    assert (empty["data"], empty["datasets"]) == ([], list(SETS))
    job = finished(app, dict.fromkeys(SETS[:2], 0.8))
    finished(app, dict.fromkeys(SETS[2:], 0.6))
    finished(app, dict.fromkeys(SETS, 0.9), mode="reference")
    finished(app, {"digits": 1.0}, protocol="half")
    body = (await http.get("/v1/leaderboard", params={"suite": "pocket"})).json()
    first, second = body["data"]
    assert (first["place"], first["average"], first["complete"]) == (1, pytest.approx(0.7), True)
    assert first["scores"][0]["job"] == job and first["scores"][0]["seeds"] == [0, 1]
    assert (second["protocol"], second["place"]) == ("half", None)
    other = (await http.get("/v1/leaderboard", params={"suite": "pocket", "mode": "reference"})).json()
    assert [line["average"] for line in other["data"]] == [pytest.approx(0.9)]
    none = (await http.get("/v1/leaderboard", params={"suite": "pocket", "shots": 20})).json()
    assert none["data"] == []


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"suite": "no-such"}, 404, "suite-unknown"),
        ({"suite": "dataset:no-such"}, 404, "dataset-not-found"),
        ({}, 422, None),
        ({"suite": "pocket", "view": "beauty"}, 422, None),
    ],
)
async def test_what_there_is_no_leaderboard_of(
    http: httpx.AsyncClient, asked: dict[str, str], status: int, code: str | None
) -> None:
    answer = await http.get("/v1/leaderboard", params=asked)
    assert answer.status_code == status
    assert code is None or answer.json()["error"]["code"] == code


async def test_two_benchmarks_are_compared(app: FastAPI, http: httpx.AsyncClient) -> None:
    left, right = finished(app, {"digits": 0.5, "faces": 0.7}), finished(app, {"digits": 0.9, "faces": 0.69})
    body = (await http.get("/v1/leaderboard/compare", params={"left": left, "right": right})).json()
    assert [(own["dataset"], own["significant"]) for own in body["data"]] == [("digits", True), ("faces", False)]
    assert (body["wins"], body["losses"]) == (1, 1) and "1 of 2 differences" in body["note"]
    running = app.state.context.jobs.jobs.submit("anonymous", Order("benchmark", "benchmark", {}), max_queued=9)[0].id
    refused = await http.get("/v1/leaderboard/compare", params={"left": left, "right": running})
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "job-not-comparable"
    assert (await http.get("/v1/leaderboard/compare", params={"left": left, "right": "job_x"})).status_code == 404


async def test_a_winner_is_promoted_by_a_job(app: FastAPI, http: httpx.AsyncClient) -> None:
    job = finished(app, {"digits": 0.9, "faces": 0.8})
    made = await http.post(f"/v1/jobs/{job}/promote", json={"name": "my-digits", "dataset": "digits"})
    assert made.status_code == 202, made.text
    body = made.json()
    assert (body["kind"], body["state"], made.headers["location"]) == ("promote", "queued", f"/v1/jobs/{body['id']}")
    assert body["parameters"]["benchmark"] == job


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"name": "mine"}, 422, "promotion-ambiguous", "/dataset"),
        ({"name": "mine", "dataset": "cars"}, 422, "no-winner", "/dataset"),
        ({"name": "NO!", "dataset": "digits"}, 422, "field-invalid", "/name"),
        ({"dataset": "digits"}, 422, "field-invalid", "/name"),
    ],
)
async def test_what_cannot_be_promoted(
    app: FastAPI, http: httpx.AsyncClient, body: dict[str, str], status: int, code: str, pointer: str
) -> None:
    job = finished(app, {"digits": 0.9, "faces": 0.8})
    answer = await http.post(f"/v1/jobs/{job}/promote", json=body)
    told = answer.json()
    assert (answer.status_code, told["error"]["code"], told["pointer"]) == (status, code, pointer)


async def test_another_keys_benchmark_is_not_promoted(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/jobs/job_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA/promote", json={"name": "mine"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "job-not-found"
