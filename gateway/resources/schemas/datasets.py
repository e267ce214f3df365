"""Bodies of ``/v1/datasets``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.request.body import Answer


class Flaw(Answer):
    """Something that was left out of the set, and why."""

    file: str = Field(description="The file in the archive", examples=["train/labels.csv"])
    line: int | None = Field(description="Its line, for lists")
    message: str


class Group(Answer):
    """What was left out for one reason."""

    reason: str
    count: int
    examples: list[str] = Field(description="The first three")


class Tally(Answer):
    """``seen`` is ``read`` and all that was left out together."""

    seen: int
    read: int
    left_out: list[Group] = Field(description="The largest group first")


class Layout(Answer):
    """How the upload was read, and why."""

    name: str = Field(examples=["coco"])
    why: str = Field(description="The marks by which it was found")
    score: float = Field(description="How much of the upload it explains, from 0 to 1")
    runner_up: str | None = Field(None, description="Another layout that came close; `layout=` takes it")
    runner_up_why: str | None = None


class Account(Answer):
    """Every file and every annotation of the upload: read, or left out and why."""

    layout: Layout
    files: Tally
    annotations: Tally
    lost: list[str] = Field(description="Classes and splits of which nothing is left")


class Dataset(Answer):
    """An imported data set."""

    object: Literal["dataset"] = Field(description="Always `dataset`")
    id: str = Field(description="To name it in jobs; its name does as well", examples=["ds_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"])
    name: str = Field(examples=["pets"])
    task: Literal["classification", "multilabel", "detection", "captions"]
    format: str = Field(description="The layout that was found", examples=["folders"])
    classes: list[str]
    counts: dict[str, int] = Field(description="Images of every split", examples=[{"train": 300, "test": 122}])
    class_counts: dict[str, int] = Field(description="Labelled images, or boxes, of every class")
    problems: list[Flaw] = Field(description="What was left out; the first 1,000")
    problem_count: int
    account: Account | None = Field(None, description="Null for sets of earlier versions")
    created_at: float = Field(description="Unix seconds")


class DatasetList(Answer):
    """Data sets, newest first."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Dataset]
    has_more: bool = Field(description="Whether there are older ones: ask again with `after` = `last_id`")
    first_id: str | None
    last_id: str | None


class Box(Answer):
    """One object of a picture."""

    label: str
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels of the image as displayed")


class Sample(Answer):
    """One picture of a set."""

    number: int = Field(description="Its place in the set")
    path: str = Field(description="Where it lay in the archive")
    split: Literal["train", "val", "test"]
    width: int
    height: int
    labels: list[str]
    boxes: list[Box]
    ignored: list[Box] = Field(description="Crowds and difficult objects: neither trained on nor counted as missed")
    captions: list[str]
    url: str = Field(description="Where to get the image")


class SampleList(Answer):
    """Pictures of a set, in its order."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Sample]
    has_more: bool
    next: int | None = Field(description="`start` of the next page")
