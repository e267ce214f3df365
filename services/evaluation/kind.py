"""The ``benchmark`` kind: models, data sets and protocols in, a table with errors out."""

from __future__ import annotations

from pydantic import ValidationError

from services.datasets.opening import dataset_store
from services.encoding.templates import fill
from services.errors import Kind, Problem
from services.evaluation.named import Names, resolve
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import units
from services.evaluation.protocols import Protocol, protocol
from services.evaluation.suites import registry
from services.evaluation.tasks import RUN, TASKS
from services.finetuning.strategies import names as strategies
from services.jobs.kind import JobKind
from services.jobs.services import JobServices
from services.ownership import Viewer

MOST_UNITS = 20_000


def check(services: JobServices, owner: str, parameters: BenchmarkParameters) -> None:
    """Refuse at once what can never work: suites, models and protocols that are not there, and what does not fit."""
    sets = _own(services, owner, parameters) if registry.is_own(parameters.suite) else _published(parameters)
    datasets, tasks = tuple(sets), set(sets.values())
    viewer = Viewer.of(services.engine, owner)
    for position, model in enumerate(parameters.models):
        try:
            _check_fit(resolve(services.settings.models_dir, model, viewer), tasks)
        except Problem as problem:
            raise problem.at(f"/parameters/models/{position}") from None

    _check_protocols(parameters)
    for one in parameters.resolved():
        if one.method is not None and one.method not in strategies():
            raise Problem(
                Kind.INVALID,
                "strategy-unknown",
                "There is no such way of adapting",
                f"Protocol {one.name!r} asks for {one.method!r}.",
                pointer="/parameters/protocols",
                remedy=f"Strategies are {', '.join(strategies())}.",
            )

    if parameters.knowledge is not None:
        try:
            services.artifacts.get(owner, parameters.knowledge.removeprefix("artifact:"))
        except Problem as problem:
            raise problem.at("/parameters/knowledge") from None

    if (parameters.learning_rate is None) != (parameters.weight_decay is None):
        raise Problem(
            Kind.INVALID,
            "hyper-parameters",
            "Give both hyper-parameters or none",
            "learning_rate and weight_decay are searched together.",
            pointer="/parameters/learning_rate",
        )

    count = sum(1 for _ in units(parameters, datasets))
    if count > MOST_UNITS:
        raise Problem(
            Kind.INVALID,
            "benchmark-too-large",
            "The benchmark is too large for one job",
            f"Models, sets, protocols, shots and seeds make {count:,} runs; at most {MOST_UNITS:,} fit into one job.",
            pointer="/parameters",
            remedy="Split it over several jobs: the leaderboard joins them.",
        )


def _check_fit(names: Names, tasks: set[str]) -> None:
    """Refuse a model that can be measured on none of the sets. Raises ``model-does-not-detect`` or ``-classify``."""
    if names.detects and "detection" not in tasks:
        raise Problem(
            Kind.INVALID,
            "model-does-not-classify",
            "The model does not classify",
            f"{names.name!r} finds boxes, and the sets have labels of whole images.",
            remedy="Measure it on sets with boxes: odinw35, or a detection set of yours.",
        )
    if not names.detects and tasks == {"detection"}:
        raise Problem(
            Kind.INVALID,
            "model-does-not-detect",
            "The model does not detect",
            f"{names.name!r} finds no boxes, and the sets have nothing else.",
            remedy="Measure a model of task detect or zero-shot-detect, like photo-detect or nanodet-coco.",
        )


def _check_protocols(parameters: BenchmarkParameters) -> None:
    """Refuse one name for two protocols, and knowledge that nobody brought."""
    known: dict[str, Protocol] = {}
    for position, one in enumerate(parameters.protocols):
        found = protocol(one) if isinstance(one, str) else one
        if known.setdefault(found.name, found) != found:
            raise Problem(
                Kind.INVALID,
                "protocol-twice",
                "Two protocols have one name",
                f"{found.name!r} is asked for in two ways, which results could not tell apart.",
                pointer=f"/parameters/protocols/{position}",
                remedy="Give each a name of its own.",
            )

        if found.knowledge is not None and parameters.knowledge is None and not _knows(parameters):
            raise Problem(
                Kind.INVALID,
                "knowledge-missing",
                "There is no knowledge of the classes",
                f"Protocol {found.name!r} asks for knowledge, and nothing of {parameters.suite!r} brings any.",
                pointer="/parameters/knowledge",
                remedy='Upload a JSON file {"class name": ["sentence", ...]} and send "knowledge": "artifact:{id}".',
            )


def _knows(parameters: BenchmarkParameters) -> bool:
    """Return whether any data set that is asked for names a file of knowledge."""
    if registry.is_own(parameters.suite):
        return False
    wanted = None if parameters.datasets is None else tuple(parameters.datasets)
    found = registry.choose(registry.suite(parameters.suite), wanted)
    return any(spec.knowledge.external or spec.knowledge.gpt3 for spec in found)


def _published(parameters: BenchmarkParameters) -> dict[str, str]:
    """The task of each set by its name."""
    try:
        chosen = registry.suite(parameters.suite)
    except Problem as problem:
        raise problem.at("/parameters/suite") from None

    wanted = None if parameters.datasets is None else tuple(parameters.datasets)
    found = registry.choose(chosen, wanted)
    if not any(spec.task in RUN for spec in found):
        task = TASKS[found[0].task]
        raise Problem(
            Kind.INVALID,
            "suite-task",
            f"{task.name.capitalize()} sets are not run by this kind of job",
            f"Every set of {chosen.name!r} {task.not_run}.",
            pointer="/parameters/suite",
            remedy=f"Suites that are run: {', '.join(_suites_that_run())}. {task.instead}",
        )

    if parameters.metric is not None:
        raise Problem(
            Kind.INVALID,
            "metric-misfit",
            "The suite says the metric",
            f"Each data set of {chosen.name!r} has its own; 'metric' is for data sets of yours.",
            pointer="/parameters/metric",
        )

    if tuple(parameters.templates) != registry.DEFAULT_TEMPLATES:
        raise Problem(
            Kind.INVALID,
            "templates-misfit",
            "The suite says the templates",
            f"Each data set of {chosen.name!r} has its own; 'templates' is for data sets of yours.",
            pointer="/parameters/templates",
        )

    return {spec.name: spec.task for spec in found}


def _suites_that_run() -> list[str]:
    return [name for name in registry.names() if any(one.task in RUN for one in registry.suite(name).datasets)]


def _own(services: JobServices, owner: str, parameters: BenchmarkParameters) -> dict[str, str]:
    store = dataset_store(services.settings, services.engine, services.artifacts)
    try:
        dataset = store.get(owner, parameters.suite.removeprefix(registry.OWN))
    except Problem as problem:
        raise problem.at("/parameters/suite") from None

    if dataset.task not in RUN or len(dataset.classes) < TASKS[dataset.task].classes:
        raise Problem(
            Kind.INVALID,
            "dataset-task",
            "The data set has no labels to measure on",
            f"{dataset.name!r} is a {dataset.task} set with {len(dataset.classes)} classes, which are too few.",
            pointer="/parameters/suite",
        )

    if not dataset.splits.get("test"):
        raise Problem(
            Kind.INVALID,
            "dataset-split",
            "The data set has no test images",
            f"{dataset.name!r} has no images to measure on.",
            pointer="/parameters/suite",
            remedy="Upload it again with a folder or list called test.",
        )

    try:
        spec = registry.own_spec(dataset, parameters.metric, tuple(parameters.templates))
    except ValidationError:
        why = TASKS[dataset.task].misfit(parameters.metric or "", len(dataset.classes))
        raise Problem(
            Kind.INVALID,
            "metric-misfit",
            "The metric does not fit the data set",
            f"{why}.",
            pointer="/parameters/metric",
        ) from None

    try:
        fill([dataset.name], parameters.templates)
    except Problem as problem:
        raise problem.at(f"/parameters{problem.pointer}") from None

    if parameters.datasets not in (None, [spec.name]):
        raise Problem(
            Kind.INVALID,
            "suite-dataset-unknown",
            "The suite has no such data set",
            f"{parameters.suite!r} is a suite of one.",
            pointer="/parameters/datasets",
            remedy="Leave 'datasets' out.",
        )

    return {spec.name: spec.task}


KIND = JobKind("benchmark", "benchmark", BenchmarkParameters, check=check)
