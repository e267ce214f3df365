"""The suites of data sets: one YAML file each under ``suites/``, read strictly. Data only: nothing here is fetched.

A new suite is a new file; ``docs/benchmark.md`` shows one. The gateway reads this module to check what is asked for, so
it imports nothing that trains.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import ModelError, invalid_fields
from services.datasets.samples import Split
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.evaluation.tasks import TASKS, MetricName, TaskName

DEFAULT_TEMPLATES = ("a photo of a {}.",)
OWN = "dataset:"
"""Before the id or name of a data set of one's own: a suite of one."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitFiles(_Strict):
    """Where a split is in a published folder: its list, and the zips that the list points into."""

    index: str
    archives: tuple[str, ...]


class Published(_Strict):
    """Files at the suite's address: lists and zips below ``folder``, or one zip with COCO annotations."""

    kind: Literal["published"]
    folder: str
    layout: Literal["iris", "coco", "odinw"]
    files: dict[Split, SplitFiles] = Field(default_factory=dict)
    archive: str | None = None
    annotations: dict[Split, str] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict, description="By file name, where the publisher's is known")

    @property
    def names(self) -> tuple[str, ...]:
        """The files to fetch, each once."""
        wanted = [name for own in self.files.values() for name in (own.index, *own.archives)]
        return tuple(dict.fromkeys([*wanted, *((self.archive,) if self.archive else ())]))


class Builtin(_Strict):
    """Made from an installed package by a function of :mod:`services.evaluation.suites.builtin`."""

    kind: Literal["builtin"]
    maker: str


class Pictographs(_Strict):
    """Drawn from what ``sightline datasets build pictographs`` made: ``services.evaluation.suites.pictographs``."""

    kind: Literal["pictographs"]
    train: tuple[str, ...] = Field(min_length=1, description="Styles whose drawings are for training")
    test: tuple[str, ...] = Field(min_length=1, description="Styles whose drawings are for testing")
    by: Literal["name", "category"] = "name"


class Example(_Strict):
    """An archive under ``examples/data`` of the source tree."""

    kind: Literal["example"]
    file: str


class Knowledge(_Strict):
    """Names of the files that say more of the classes."""

    external: str | None = None
    gpt3: str | None = None


class FewShot(_Strict):
    """Few-shot subsets that the publisher made himself."""

    shots: tuple[int, ...]
    seeds: tuple[int, ...]


class SuiteSet(_Strict):
    """One data set of a suite."""

    name: str
    about: str = ""
    task: TaskName
    metric: MetricName
    in_average: bool = True
    center_crop: bool = True
    sizes: dict[Split, int] = Field(default_factory=dict)
    classes: tuple[str, ...] = Field(min_length=1)
    synonyms: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    knowledge: Knowledge = Knowledge()
    source: Annotated[Published | Builtin | Pictographs | Example, Field(discriminator="kind")] | None = None
    in_odinw13: bool = False
    evaluated_on: Literal["val", "minival", "test"] = "test"
    few_shot: FewShot | None = None

    @model_validator(mode="after")
    def _metric_fits(self) -> SuiteSet:
        why = TASKS[self.task].misfit(self.metric, len(self.classes))
        if why:
            raise ValueError(why)
        return self


class Suite(_Strict):
    """Data sets that are reported together."""

    name: str
    title: str
    address: str | None = None
    knowledge_address: str | None = None
    datasets: tuple[SuiteSet, ...] = Field(min_length=1)

    @property
    def averaged(self) -> tuple[str, ...]:
        """The sets that the suite's average is over."""
        return tuple(own.name for own in self.datasets if own.in_average)


def own_spec(dataset: Dataset, metric: MetricName | None, templates: tuple[str, ...]) -> SuiteSet:
    """Describe a key's own data set as a suite does. Raises ``ValueError`` where the metric does not fit."""
    return SuiteSet(
        name=dataset.name,
        task=cast(TaskName, dataset.task),
        metric=metric or TASKS[dataset.task].metrics[0],
        classes=tuple(dataset.classes),
        templates=templates,
    )


def is_own(name: str) -> bool:
    """Return whether a suite's name means a key's own data set."""
    return name.startswith(OWN)


def names() -> tuple[str, ...]:
    """The suites that there are, sorted."""
    folder = files("services.evaluation") / "suites"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


@cache
def suite(name: str) -> Suite:
    """The suite of that name. Raises ``suite-unknown``, and :class:`ModelError` for a file that is not right."""
    if name not in names():
        raise Problem(
            Kind.NOT_FOUND,
            "suite-unknown",
            "There is no such suite",
            f"No suite is called {name[:64]!r}.",
            pointer="/suite",
            remedy=f"Suites are {', '.join(names())}; a data set of yours is {OWN}<its name>.",
        )
    path = files("services.evaluation") / "suites" / f"{name}.yaml"
    return read_suite(path.read_text("utf-8"), f"suites/{name}.yaml", name)


def read_suite(text: str, where: str, name: str) -> Suite:
    """A suite file; ``where`` is what messages call it. Raises :class:`ModelError` with file, field and remedy."""
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = Suite.model_validate(yaml.load(text, loader))  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise ModelError(f"{where} is not YAML: {error}", "correct the line that it names") from error
    except ValidationError as error:
        raise ModelError(f"{where}: {invalid_fields(error)}", "correct what is named") from error

    if found.name != name:
        raise ModelError(f"{where}: name is {found.name!r}", f"name the file {found.name}.yaml")

    own = [one.name for one in found.datasets]
    if len(set(own)) != len(own):
        raise ModelError(f"{where}: two data sets have one name", "name each differently")

    return found


def choose(chosen: Suite, wanted: tuple[str, ...] | None) -> tuple[SuiteSet, ...]:
    """The sets of ``chosen`` that were named, all when none was. Raises ``suite-dataset-unknown``."""
    if wanted is None:
        return chosen.datasets

    by_name = {own.name: own for own in chosen.datasets}
    for position, name in enumerate(wanted):
        if name not in by_name:
            raise Problem(
                Kind.INVALID,
                "suite-dataset-unknown",
                "The suite has no such data set",
                f"{chosen.name!r} has no {name[:64]!r}.",
                pointer=f"/parameters/datasets/{position}",
                remedy=f"It has {', '.join(by_name)}.",
            )

    return tuple(by_name[name] for name in dict.fromkeys(wanted))
