"""A published UniCL or K-LITE checkpoint to three served models: image tower, text tower, and both as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models import catalog
from models.catalog.card import Batching, Measurement
from models.catalog.geometry import ImagePreprocess
from models.encoders import encoder_files, encoder_of
from models.export.accuracy import Array, Labelled, cost, first_outputs
from models.export.onnx import Answer
from models.export.precision import answers
from models.intake.conversion import Job, Version, exported
from models.repository.reading import MODEL
from models.text.clip_bpe import clip_tokenizer_json
from models.unicl.cards import Served, cards
from models.unicl.checkpoint import read
from models.unicl.export import image_signature, serve_image, serve_text, text_signature
from models.unicl.tokens import Tokenise, from_file
from models.unicl.variants import VARIANTS

TOKENIZER = "tokenizer.json"
TEMPLATES = Path(catalog.__file__).parent / "templates" / "imagenet-7.txt"
"""What a class name is put into unless the request says otherwise. The publications use 81 templates, ``imagenet-81``,
which cost eleven times as much for every new label."""


def convert(job: Job) -> Iterator[Version]:
    """``NAME-image``, ``NAME-text`` and ``NAME``. Raises :class:`models.errors.ModelError`."""
    config = VARIANTS[job.release.variant]
    flags: dict[str, Any] = job.release.flags
    config = replace(config, text=replace(config.text, **flags))
    job.progress("read weights", 0, 4)
    model = read(job.file, config)
    temperature = float(model.logit_scale.detach().exp())
    image, text = job.scratch / "image" / MODEL, job.scratch / "text" / MODEL
    for target in (image, text):
        target.parent.mkdir()

    tower = encoder_of(model.image_encoder, model.image_projection, unit=True)
    job.progress("export and verify pictures", 1, 4)
    seen = serve_image(model, image, job.release.image.size, job.precision)
    job.progress("export and verify texts", 2, 4)
    read_texts = serve_text(model, text, job.precision)
    tokenizer = job.scratch / TOKENIZER
    tokenizer.write_text(clip_tokenizer_json(), "utf-8")
    accuracy: tuple[Measurement, ...] = ()
    if job.pictures is not None:
        job.progress("classify your pictures", 3, 4)
        both_towers = (answers(seen, image, image_signature(model)), answers(read_texts, text, text_signature(model)))
        tokenise = from_file(tokenizer, config.text.context_length, config.text.vocab_size)
        accuracy = _accuracy(job.pictures, job.image, *both_towers, tokenise, seen.engine.precision)

    job.progress("write", 3, 4)
    image_card, text_card, both = cards(
        config,
        Served(
            name=job.name,
            title=job.release.title,
            description=(
                f"Unified contrastive learning ({job.release.paper}), trained on {job.release.trained_on}. Classifies "
                "pictures by names that the request gives, and puts pictures and texts into one space."
            ),
            image=job.image,
            scale=temperature,
            templates=_templates(),
            licence=job.release.licence,
            image_engine=seen.engine,
            text_engine=read_texts.engine,
            image_batching=Batching(max_batch_size=16),
            provenance=job.provenance,
            measured=(*job.measured, *accuracy),
            tower_measured=(seen.measured, read_texts.measured),
            limits=("English.", *filter(None, (job.release.note,))),
            not_for=("Identifying or judging people",),
        ),
    )
    yield Version(image_card, {**exported(seen.file), **encoder_files(tower, image.parent)})
    yield Version(text_card, {**exported(read_texts.file), TOKENIZER: tokenizer.read_bytes()})
    yield Version(both, {})


def _accuracy(
    pictures: Labelled,
    spec: ImagePreprocess,
    seers: tuple[Answer, Answer],
    readers: tuple[Answer, Answer],
    tokenise: Tokenise,
    precision: str,
) -> tuple[Measurement, ...]:
    """Zero-shot, with both towers exact and with both as they are served."""
    templates = _templates()
    texts = [[template.replace("{}", label) for template in templates] for label in pictures.labels]
    embedded = first_outputs(seers, pictures, spec)

    scores = []
    for images, reader in zip(embedded, readers, strict=True):
        classes = np.stack([_class_row(reader({"input_ids": tokenise(of_label).numpy()})[0]) for of_label in texts])
        scores.append(images @ classes.T)

    return cost(precision, scores[0], scores[1], np.array(pictures.truth), pictures)


def _class_row(texts: Array) -> Array:
    """``(T, D)`` of one class's texts to their mean's direction ``(D,)``."""
    mean: Array = texts.mean(axis=0)
    row: Array = mean / np.linalg.norm(mean)
    return row


def _templates() -> list[str]:
    lines = TEMPLATES.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
