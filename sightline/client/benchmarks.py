"""``client.leaderboard`` and ``client.compare``: what benchmarks have measured. Scores are 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

import httpx

from sightline.client.halves import N, call
from sightline.client.resource import Resource, json_of

View = Literal["score", "parameters", "shots"]
Mode = Literal["strict", "reference"]


@dataclass(frozen=True, slots=True)
class Score:
    """A result on one data set; ``low`` to ``high`` is a 95 % interval over seeds, where there are several."""

    dataset: str
    metric: str
    mean: float
    stderr: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    test_images: int
    job: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A line of a leaderboard; ``shots`` 0 is zero-shot, ``None`` all images. ``place`` only where it is complete."""

    place: int | None
    model: str
    protocol: str
    method: str | None
    init: str | None
    shots: int | None
    average: float
    stderr: float
    parameter_efficiency: float
    trainable_parameters: float
    complete: bool
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """How a model and protocol gain by shots: ``(shots, average)``."""

    model: str
    protocol: str
    points: tuple[tuple[int | None, float], ...]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Results on a suite, best first; the average is over ``datasets``."""

    suite: str
    view: str
    mode: str
    datasets: tuple[str, ...]
    standings: tuple[Standing, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Right minus left on one data set; ``significant`` where chance alone does as much less than once in twenty."""

    dataset: str
    protocol: str
    shots: int | None
    metric: str
    left_model: str
    right_model: str
    left: float
    right: float
    difference: float
    stderr: float
    p: float
    significant: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two benchmarks, data set by data set."""

    left: str
    right: str
    differences: tuple[Difference, ...]
    mean_difference: float
    wins: int
    losses: int
    sign_test_p: float | None
    note: str


class Benchmarks(Resource[N]):
    @call
    async def leaderboard(
        self, suite: str, *, view: View = "score", mode: Mode = "strict", shots: int | None = None
    ) -> Leaderboard:
        """Return what your benchmarks have measured on a suite, best first; ``shots`` -1 is all images, 0 zero-shot.

        >>> client = Client()
        >>> [standing.model for standing in client.leaderboard("pocket").standings]
        []
        """
        asked = {"suite": suite, "view": view, "mode": mode} | ({} if shots is None else {"shots": str(shots)})
        return await self._ask("GET", f"/v1/leaderboard?{urlencode(asked)}", _leaderboard)

    @call
    async def compare(self, left: str, right: str) -> Comparison:
        """Two finished benchmarks by their job ids, data set by data set."""
        asked = urlencode({"left": left, "right": right})
        return await self._ask("GET", f"/v1/leaderboard/compare?{asked}", _comparison)


def _leaderboard(response: httpx.Response) -> Leaderboard:
    body = json_of(response)
    return Leaderboard(
        body["suite"],
        body["view"],
        body["mode"],
        tuple(body["datasets"]),
        tuple(_standing(entry) for entry in body["data"]),
        tuple(_curve(entry) for entry in body["curves"]),
    )


def _curve(entry: Mapping[str, Any]) -> Curve:
    points = tuple((point["shots"], point["average"]) for point in entry["points"])
    return Curve(entry["model"], entry["protocol"], points)


def _standing(entry: Mapping[str, Any]) -> Standing:
    own = {name: entry[name] for name in Standing.__dataclass_fields__ if name != "scores"}
    scores = []
    for score in entry["scores"]:
        fields = {name: score[name] for name in Score.__dataclass_fields__}
        scores.append(Score(**{**fields, "seeds": tuple(score["seeds"])}))
    return Standing(**own, scores=tuple(scores))


def _comparison(response: httpx.Response) -> Comparison:
    body = json_of(response)
    differences = tuple(_difference(entry) for entry in body["data"])
    own = {name: body[name] for name in ("left", "right", "mean_difference", "wins", "losses", "sign_test_p", "note")}
    return Comparison(differences=differences, **own)


def _difference(entry: Mapping[str, Any]) -> Difference:
    return Difference(
        dataset=entry["dataset"],
        protocol=entry["protocol"],
        shots=entry["shots"],
        metric=entry["metric"],
        left_model=entry["left"]["model"],
        right_model=entry["right"]["model"],
        left=entry["left"]["mean"],
        right=entry["right"]["mean"],
        difference=entry["difference"],
        stderr=entry["stderr"],
        p=entry["p"],
        significant=entry["significant"],
    )
