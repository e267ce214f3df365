"""Where a benchmark's data come from: the sets of its suite or the key's own one, and what is known of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from services.datasets.opening import dataset_store
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.suites import preparing, registry
from services.evaluation.suites.fetching import Follow
from services.evaluation.suites.knowledge import ClassKnowledge, read_knowledge
from services.evaluation.suites.preparing import Material
from services.evaluation.suites.registry import SuiteSet
from services.jobs.context import JobContext


class Sources:
    """The data of the benchmark that ``parameters`` ask for, for a job of the same key.

    ``sets``: what the suite says of each, by name and in its order. ``suite``: its name, with the name of an own set.
    """

    def __init__(self, ctx: JobContext[Any], parameters: BenchmarkParameters, follow: Follow) -> None:
        services = ctx.services
        self._ctx = ctx
        self._parameters = parameters
        self._follow = follow
        self._store = dataset_store(ctx.settings, services.engine, services.artifacts)
        self._own = registry.is_own(parameters.suite)
        self._known: dict[str, Mapping[str, ClassKnowledge]] = {}
        self.suite = parameters.suite
        self.sets = self._sets()

    @contextmanager
    def material(self, name: str) -> Iterator[Material]:
        """A data set that lies ready while the context is open."""
        settings, spec = self._ctx.settings, self.sets[name]
        if not self._own:
            yield preparing.prepare(registry.suite(self.suite), spec, settings, self._follow)
            return
        dataset = self._dataset()
        sha256 = self._ctx.services.artifacts.by_id(dataset.artifact_id).sha256
        cache = settings.cache_dir / "datasets"
        with self._store.open(dataset, cache):
            yield Material(spec, cache / f"{sha256}.zip", sha256)

    def adopted(self, name: str) -> Dataset:
        """A data set as the key's own; a suite's is taken over under the suite's name."""
        if self._own:
            return self._dataset()
        with self.material(name) as material:
            return self._store.adopt(self._ctx.owner, f"{self.suite}-{name}", material.file)

    def knowledge(self, name: str) -> Mapping[str, ClassKnowledge]:
        """Return what is known of the classes of a data set: what the job brought, else the suite's files."""
        if name not in self._known:
            reference = self._parameters.knowledge
            if reference is not None:
                with self._ctx.open(reference) as file:
                    self._known[name] = read_knowledge(file.read(), reference)
            else:
                self._known[name] = self._published_knowledge(name)
        return self._known[name]

    def _sets(self) -> dict[str, SuiteSet]:
        parameters = self._parameters
        if self._own:
            dataset = self._dataset()
            spec = registry.own_spec(dataset, parameters.metric, tuple(parameters.templates))
            self.suite = f"{registry.OWN}{dataset.name}"
            return {spec.name: spec}
        wanted = None if parameters.datasets is None else tuple(parameters.datasets)
        return {spec.name: spec for spec in registry.choose(registry.suite(parameters.suite), wanted)}

    def _dataset(self) -> Dataset:
        return self._store.get(self._ctx.owner, self._parameters.suite.removeprefix(registry.OWN))

    def _published_knowledge(self, name: str) -> Mapping[str, ClassKnowledge]:
        if self._own:
            raise Problem(
                Kind.INVALID,
                "knowledge-missing",
                "There is no knowledge of the classes",
                f"A protocol asks for knowledge, and the job brought none for {name!r}.",
                pointer="/parameters/knowledge",
                remedy='Upload a JSON file {"class name": ["sentence", ...]} and send "knowledge": "artifact:{id}".',
            )
        chosen = registry.suite(self._parameters.suite)
        return preparing.suite_knowledge(chosen, self.sets[name], self._ctx.settings, self._follow)
