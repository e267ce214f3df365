"""A model that is measured: its image encoder, the language that goes with it, and what both put out for a data set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from models.encoders import ImageEncoder
from services.classification.zero_shot import FeatureRows, ZeroShot, open_zero_shot
from services.datasets.package import Package, Stored
from services.errors import Kind, Problem
from services.evaluation.bench import Watch
from services.evaluation.named import Names
from services.evaluation.protocols import Protocol
from services.evaluation.suites.knowledge import ClassKnowledge, pieces, pieces_of_toolkit, prompts
from services.evaluation.suites.preparing import Material
from services.evaluation.tasks.classification.zero_shot import softmax, unit, zero_shot_probabilities
from services.finetuning.data.features import FeatureExtractor
from services.finetuning.encoders.opening import open_encoder
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.runtime.protocol import Backend, ModelHandle, Options
from services.settings import Settings
from services.stages import Stages

Array = NDArray[np.float32]
SECONDS = 600.0
TEXTS_AT_ONCE = 20_000


class Subject:
    """One model of a job, over a backend that has its parts loaded. What it uses stays open as long as ``stack``."""

    def __init__(
        self, backend: Backend, encoder: ModelHandle, names: Names, settings: Settings, stack: ExitStack
    ) -> None:
        limits = Limits.of(settings)
        self.names = names
        self._backend = backend
        self.limits = limits
        self._settings = settings
        self._extractor = FeatureExtractor(encoder, settings.cache_dir / "features", limits)
        self._model = encoder
        self.encoder: Card = encoder.card
        self._network: ImageEncoder | None = None
        self._language: ZeroShot | None = None
        self._stack = stack

    @staticmethod
    @asynccontextmanager
    async def open(backend: Backend, names: Names, settings: Settings) -> AsyncIterator[Subject]:
        """The model behind ``names``: its own image tower where it is a pipeline. Raises the backend's ``model-*``."""
        with ExitStack() as stack:
            model = stack.enter_context(await backend.resolve(names.name))
            yield Subject(backend, model.parts.get("image", model), names, settings, stack)

    async def features(self, material: Material, package: Package, samples: Sequence[Stored], watch: Watch) -> Array:
        """``(N, D)`` of ``samples``; computed once, then read from the disk."""
        return await self._extractor.extract(package, material.sha256, samples, watch)

    def trainable(self) -> ImageEncoder:
        """The encoder in PyTorch, opened once: adaptations work on copies.

        Raises ``encoder-not-trainable`` where there is only an ONNX file.
        """
        if self._network is None:
            folder = self._model.folder
            self._network = open_encoder(folder, self.encoder, self._settings.models_dir, self._settings.cache_dir)
        return self._network

    async def language(self) -> ZeroShot:
        """The open-vocabulary model. Raises ``no-language-model`` where there is none over this version."""
        if self.names.language is None:
            raise Problem(
                Kind.INVALID,
                "no-language-model",
                "The encoder knows no language",
                f"No open-vocabulary model is built on {self.names.encoder!r}, so class names say nothing to it.",
                remedy="Take protocols with random initialisation, or an open-vocabulary model.",
            )

        if self._language is None:
            kind = open_zero_shot(self._stack.enter_context(await self._backend.resolve(self.names.language)))
            if kind.image.card != self.encoder:
                raise Problem(
                    Kind.INVALID,
                    "no-language-model",
                    "The encoder knows no language",
                    f"{self.names.language!r} is built on version {kind.image.card.version} of {self.encoder.name!r}; "
                    f"this is version {self.encoder.version}.",
                    remedy=f"Name {self.names.language!r} instead, or make one on this version.",
                )
            self._language = kind

        return self._language

    async def rows(
        self,
        material: Material,
        protocol: Protocol,
        knowledge: Mapping[str, ClassKnowledge] | None,
        *,
        reference: bool = False,
    ) -> Array:
        """``(C, D)`` unit rows of the classes in the encoder's feature space. Raises ``no-language-model``.

        ``reference``: what is said of a class of which little is known has the toolkit's quirks.
        """
        kind = await self.language()
        if not isinstance(kind, FeatureRows):
            raise Problem(Kind.INVALID, "no-language-model", "The model gives no rows for class names")

        spec, classes = material.spec, readable(material.spec.classes)
        options = Options.within(SECONDS)
        if protocol.knowledge is None:
            return await kind.feature_rows(classes, spec.templates, options, Stages())

        known = knowledge or {}
        texts = []
        for raw, name in zip(spec.classes, classes, strict=True):
            take = pieces_of_toolkit if reference and raw in known else pieces
            said = take(known.get(raw, ClassKnowledge()), protocol.knowledge, protocol.gpt3_items)
            texts.append(prompts(name, spec.templates, said))

        flat = [text for own in texts for text in own]
        found = [
            await kind.feature_rows(flat[start : start + TEXTS_AT_ONCE], ("{}",), options, Stages())
            for start in range(0, len(flat), TEXTS_AT_ONCE)
        ]
        embedded = np.concatenate(found)
        ends = np.cumsum([len(own) for own in texts])
        means = [part.mean(axis=0) for part in np.split(embedded, ends[:-1])]
        return unit(np.asarray(means, np.float32))

    async def zero_shot(
        self,
        material: Material,
        package: Package,
        samples: Sequence[Stored],
        protocol: Protocol,
        knowledge: Mapping[str, ClassKnowledge] | None,
        *,
        reference: bool,
        watch: Watch,
    ) -> Array:
        """``(N, C)`` probabilities of ``samples``.

        In the reference's way, and wherever more than names is said of the classes, that is the softmax of 100 times
        the cosine in feature space; otherwise the model's own scores, as it serves.
        """
        if reference or protocol.knowledge is not None:
            rows = await self.rows(material, protocol, knowledge, reference=reference)
            return zero_shot_probabilities(await self.features(material, package, samples, watch), rows)

        kind = await self.language()
        classes = readable(material.spec.classes)
        own = await kind.rows(classes, material.spec.templates, Options.within(SECONDS), Stages())
        card = kind.image.card
        assert card.image is not None
        prepare, step = Preprocessor(card.image), card.batching.max_batch_size
        found: list[Array] = []
        for start in range(0, len(samples), step):
            watch(start, len(samples))
            part = samples[start : start + step]
            pixels = await asyncio.to_thread(self._pixels, package, part, prepare)
            answer = await kind.image.infer({card.image.input: pixels}, kind.image_outputs)
            sides = np.array([min(one.width, one.height) for one in part], np.float32)
            scored = await asyncio.to_thread(kind.score, answer.outputs, own, sides)
            found.append(softmax(scored.logits))

        return np.concatenate(found)

    def _pixels(self, package: Package, part: Sequence[Stored], prepare: Preprocessor) -> Array:
        return prepare.batch([read_picture(package.read(one), self.limits) for one in part])


def readable(classes: Sequence[str]) -> list[str]:
    """Class names as they are written in sentences."""
    return [name.replace("_", " ").strip() or "nothing" for name in classes]
