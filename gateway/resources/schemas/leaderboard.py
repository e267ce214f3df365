"""Answers of ``/v1/leaderboard``, and the body that promotes a winner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.request.body import Answer, Body, PlainText


class Score(Answer):
    """What one way of working reaches on one data set; scores are 0 to 1."""

    dataset: str
    metric: str = Field(examples=["accuracy"])
    mean: float = Field(description="Over seeds")
    stderr: float = Field(description="Standard error: what the draws and the number of test images leave open")
    low: float | None = Field(description="95 % interval over seeds; absent for one seed")
    high: float | None
    seeds: list[int]
    test_images: int
    job: str = Field(description="The benchmark it comes from")


class Standing(Answer):
    """One line of a leaderboard: a model, how it was adapted, to how many images of a class."""

    place: int | None = Field(description="From 1; absent where data sets of the suite are missing")
    model: str
    protocol: str = Field(examples=["linear-probe-language"])
    method: str | None = Field(description="Strategy; absent for zero-shot")
    init: str | None
    shots: int | None = Field(description="0 is zero-shot, absent is all images")
    average: float = Field(description="Unweighted, over the data sets that it has")
    stderr: float
    parameter_efficiency: float = Field(description="average * exp(-log10(trainable / 1e8 + 1)), as ELEVATER counts")
    trainable_parameters: float
    complete: bool = Field(description="Whether it has every data set of the suite's average")
    scores: list[Score]


class Point(Answer):
    """A place on a curve."""

    shots: int | None = Field(description="Absent is all images")
    average: float


class Curve(Answer):
    """Sample efficiency: how a model and protocol gain by shots, over the data sets that all points share."""

    model: str
    protocol: str
    points: list[Point]


class Leaderboard(Answer):
    """Results of your benchmarks on a suite, best first; of a result that several jobs have, the newest."""

    object: Literal["leaderboard"] = Field(description="Always `leaderboard`")
    suite: str
    view: str
    mode: str
    datasets: list[str] = Field(description="What the average is over")
    data: list[Standing]
    curves: list[Curve]


class Side(Answer):
    """One of two that are compared."""

    model: str
    mean: float
    stderr: float
    seeds: list[int]


class Difference(Answer):
    """Two results on one data set."""

    dataset: str
    protocol: str
    shots: int | None
    metric: str
    left: Side
    right: Side
    difference: float = Field(description="Right minus left")
    stderr: float
    p: float = Field(description="Two-sided; how often chance alone would make the difference at least as large")
    significant: bool = Field(description="Whether p is below 0.05, each difference by itself")


class Comparison(Answer):
    """Two benchmarks, data set by data set."""

    object: Literal["comparison"] = Field(description="Always `comparison`")
    left: str
    right: str
    data: list[Difference]
    mean_difference: float
    wins: int = Field(description="How often right is better")
    losses: int
    sign_test_p: float | None = Field(description="Exact, over all differences; absent where nothing differs")
    note: str = Field(description="What can be said of chance, in words")


class PromoteBody(Body):
    """What becomes a model, and what it is called."""

    name: Annotated[PlainText, Field(max_length=64)] = Field(description="The new model", examples=["my-pets"])
    dataset: Annotated[PlainText, Field(max_length=200)] | None = Field(
        None, description="Of the benchmark's; needed where it has several"
    )
    model: Annotated[PlainText, Field(max_length=200)] | None = Field(
        None, description="Only among results of this model"
    )
    protocol: Annotated[PlainText, Field(max_length=64)] | None = Field(
        None, description="Only among results of this protocol"
    )
