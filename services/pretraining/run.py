"""Does a pre-training job: tokenizer, training with checkpoints, scores, export, three versions, live at once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from models.catalog.card import Card
from models.catalog.document import document
from models.catalog.geometry import ImagePreprocess
from models.repository.ownership import MadeBy, version_of
from models.repository.reading import MODEL, next_version, read_card
from models.repository.writer import writing
from models.text.bpe_training import train_bpe, vocabulary_size
from models.unicl.cards import cards, pinned, tower_names
from models.unicl.checkpoint import read
from models.unicl.data import CropAndFlip
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.sizes import SIZES
from models.unicl.tokens import Tokenise, from_file
from models.unicl.train import CHECKPOINT, WEIGHTS, Recipe, Step, TrainingError, train
from services.datasets.opening import dataset_store
from services.datasets.package import Package
from services.datasets.samples import Split
from services.datasets.store import Dataset
from services.errors import Kind, Problem
from services.jobs.context import JobContext
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.ownership import check_names
from services.pretraining.cards import Trained, served
from services.pretraining.export import Exported, export_towers
from services.pretraining.kind import FAMILY, PretrainParameters, names_of
from services.pretraining.pairs import Pairs, captions_of, with_texts
from services.pretraining.run_state import RunState
from services.pretraining.zero_shot_score import Score, Towers, scores
from services.runtime import announce
from services.runtime.onnx.cores import physical_cores

CHECKPOINT_SECONDS = 30.0
METRIC_EVENTS = 500
"""Steps whose loss is told as an event; the log has them all."""
TOKENIZER, LOG = "tokenizer.json", "log.jsonl"


def run(ctx: JobContext[PretrainParameters]) -> Mapping[str, Any]:
    """See :class:`services.pretraining.kind.PretrainParameters`."""
    # Matrices of the smallest network are faster on one thread.
    torch.set_num_threads(1 if ctx.parameters.network == "nano" else physical_cores())
    return _Pretrain(ctx).go()


class _Pretrain:
    def __init__(self, ctx: JobContext[PretrainParameters]) -> None:
        self._ctx = ctx
        self._parameters = ctx.parameters
        self._datasets = dataset_store(ctx.settings, ctx.services.engine, ctx.services.artifacts)
        self._limits = Limits.of(ctx.settings)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._out = ctx.scratch / "run"
        self._state = RunState(ctx, self._out, (CHECKPOINT, TOKENIZER))
        self._image = ImagePreprocess(size=ctx.parameters.image_size)
        self._made_by = MadeBy(key=ctx.owner, job=ctx.job_id)

    def go(self) -> dict[str, Any]:
        ctx = self._ctx
        dataset = self._datasets.get(ctx.owner, self._parameters.dataset)
        made = self._made_before(self._parameters.name)
        if made is None:
            with self._datasets.open(dataset, ctx.settings.cache_dir / "datasets") as package:
                model = self._train(package)
                found = self._scores(model, package, self._device)
                model = model.cpu()
                side, precision = self._parameters.image_size, self._parameters.precision
                exported = export_towers(model, ctx.scratch, side, precision, lambda told: ctx.step(message=told))
                served_found = {} if exported.exact else self._scores(exported.towers, package, torch.device("cpu"))
            made = self._publish(model, dataset, found, exported, served_scores=served_found)
        # Another attempt may have died between writing the version and this line: telling twice does no harm.
        announce.serve(ctx.settings, *tower_names(made.name), made.name)
        with ctx.artifact("report.json", "application/json") as out:
            report = {"parameters": self._parameters.model_dump(), "card": document(made)}
            out.write(json.dumps(report, indent=1).encode())

        return {
            "model": made.name,
            "version": made.version,
            "dataset": dataset.id,
            "scores": {f"{one.dataset.rpartition(' ')[2]} {one.metric}": one.value for one in made.measured},
            "note": made.description,
        }

    # Training

    def _train(self, package: Package) -> UniCL:
        parameters, ctx = self._parameters, self._ctx
        samples = with_texts(package.split("train"))
        if len(samples) < parameters.batch_size:
            raise Problem(
                Kind.INVALID,
                "too-few-images",
                "There are fewer training images than a batch has",
                f"{len(samples):,} training images have a label or a caption; batch_size is {parameters.batch_size:,}.",
                pointer="/parameters/batch_size",
                remedy="Ask for smaller batches, or add images.",
            )

        told_apart: set[str | int] = set()
        for stored in samples:
            told_apart.update(captions_of(stored), stored.sample.labels)
        if len(told_apart) < 2:
            raise Problem(
                Kind.INVALID,
                "dataset-classes",
                "The data set has too few classes",
                "All training images have the same label or caption; there is nothing to tell apart.",
                pointer="/parameters/dataset",
                remedy="Add training images of other classes, or with other captions.",
            )

        self._state.restore()
        tokenizer = self._out / TOKENIZER
        if not tokenizer.exists():
            ctx.step(message="making the tokenizer")
            texts = list(chain.from_iterable(map(captions_of, samples)))
            for name in package.classes:
                texts += [template.replace("{}", name) for template in parameters.templates]
            tokenizer.write_text(train_bpe(texts, parameters.vocabulary), "utf-8")

        config = self._config()
        data = Pairs(
            package,
            samples,
            CropAndFlip(parameters.image_size),
            parameters.templates,
            parameters.seed,
            parameters.image_size * 3 // 2,
            self._limits,
        )
        torch.manual_seed(parameters.seed)
        self._steps(UniCL(config), data)
        return read(self._out / WEIGHTS, config).to(self._device)

    def _config(self) -> UniCLConfig:
        size = vocabulary_size((self._out / TOKENIZER).read_text("utf-8"))
        return SIZES[self._parameters.network].config(size)

    def _tokenise(self) -> Tokenise:
        config = self._config().text
        return from_file(self._out / TOKENIZER, config.context_length, config.vocab_size)

    def _steps(self, network: UniCL, data: Pairs) -> None:
        parameters, ctx = self._parameters, self._ctx
        recipe = Recipe(
            steps=parameters.steps,
            batch_size=parameters.batch_size,
            learning_rate=parameters.learning_rate,
            least_rate=parameters.learning_rate / 100,
            warmup=max(1, min(500, parameters.steps // 10)),
            weight_decay=parameters.weight_decay,
            bfloat16=self._device.type == "cuda",
            seed=parameters.seed,
        )
        tokenise = self._tokenise()
        log = ctx.stream(LOG)
        saved, told, every = time.monotonic(), -1, max(1, parameters.steps // METRIC_EVENTS)

        def due(step: int) -> bool:
            return step < parameters.steps and time.monotonic() - saved >= CHECKPOINT_SECONDS

        try:
            for step in train(network, data, tokenise, recipe, self._out, self._device, due):
                log.write(json.dumps(asdict(step)).encode() + b"\n")
                if self._state.changed:
                    self._state.keep()
                    saved = time.monotonic()
                metrics = _metrics(step) if step.step // every > told else None
                told = max(told, step.step // every)
                ctx.step(step.step + 1, parameters.steps, message="training", metrics=metrics)
        except TrainingError as error:
            raise Problem(
                Kind.INVALID,
                "training-diverged",
                "The training cannot go on",
                f"{error}.",
                pointer="/parameters/learning_rate",
                remedy="Use a smaller learning rate.",
            ) from error
        self._state.keep()

    def _scores(self, towers: Towers, package: Package, device: torch.device) -> dict[str, list[Score]]:
        tokenise = self._tokenise()
        prepare = Preprocessor(self._image)
        self._ctx.step(message="scoring pictures that it was not trained on")
        splits: tuple[tuple[str, Split], ...] = (("validation", "val"), ("test", "test"))

        return {
            name: scores(
                towers,
                tokenise,
                package,
                with_texts(package.split(split)),
                self._parameters.templates,
                prepare,
                self._limits,
                device,
                lambda: self._ctx.step(),
            )
            for name, split in splits
        }

    # Publishing

    def _made_before(self, name: str) -> Card | None:
        """Read the version of ``name`` that an earlier attempt at this very job wrote."""
        root = self._ctx.settings.models_dir
        version = version_of(root, name, self._made_by)
        return None if version is None else read_card(root / name / version)

    def _publish(
        self,
        model: UniCL,
        dataset: Dataset,
        found: Mapping[str, list[Score]],
        exported: Exported,
        *,
        served_scores: Mapping[str, list[Score]],
    ) -> Card:
        """Write both towers, then what joins them; its version is the last of the three to appear."""
        ctx, name = self._ctx, self._parameters.name
        trained = Trained(
            self._parameters,
            dataset,
            ctx.services.artifacts.by_id(dataset.artifact_id).sha256,
            self._image,
            float(model.logit_scale.detach().exp()),
            found,
            served_scores,
            exported,
        )
        files: tuple[dict[str, Path | bytes], ...] = (
            {MODEL: exported.image.file, **exported.encoder},
            {MODEL: exported.text.file, TOKENIZER: self._out / TOKENIZER},
            {},
        )
        root = ctx.settings.models_dir

        # Since the job was submitted another may have taken the name.
        with writing(root, *names_of(name)) as held:
            check_names(root, ctx.owner, names_of(name), family=FAMILY)
            image, text, pair = (self._versioned(card) for card in cards(model.config, served(trained)))
            made = [image, text, pinned(pair, image, text)]
            ctx.confirm()
            for card, content in zip(made, files, strict=True):
                whole = None if card.name == name else name
                held.write(card, content, made_by=self._made_by, part_of=whole, replace=True)
        return made[-1]

    def _versioned(self, card: Card) -> Card:
        """Give ``card`` the number of the version that an attempt which died had written, or the next one."""
        before = self._made_before(card.name)
        version = before.version if before else next_version(self._ctx.settings.models_dir, card.name)
        return card.model_copy(update={"version": version})


def _metrics(step: Step) -> dict[str, float]:
    return {
        "loss": step.loss,
        "learning_rate": step.rate,
        "temperature": step.temperature,
        "images_per_second": round(step.images_per_second, 1),
    }
