"""A published UniCL or K-LITE checkpoint to three served models: image tower, text tower, and both as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import catalog
from models.catalog.card import Batching, Card, Engine, Pipeline, TensorSpec, TextPreprocess
from models.conversion import Job, Version, exported
from models.encoders import encoder_files, encoder_of
from models.repository import MODEL
from models.text.clip_bpe import clip_tokenizer_json
from models.unicl.checkpoint import read
from models.unicl.export import export_image, export_text
from models.unicl.variants import VARIANTS

PIPELINE = "dual-encoder"
"""The kind of pipeline that serving knows two towers of one space by."""

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
    image_errors = export_image(model, image, job.release.image.size)
    job.progress("export and verify texts", 2, 4)
    text_errors = export_text(model, text)
    job.progress("write", 3, 4)
    shared: dict[str, Any] = {
        "family": "unicl",
        "licence": job.release.licence,
        "provenance": job.provenance,
        "not_for": ("Identifying or judging people",),
    }
    side = job.release.image.size
    yield Version(
        Card(
            name=f"{job.name}-image",
            task="embed-image",
            title=f"{job.release.title}: image tower",
            description="Pictures to unit vectors in the space that the text tower shares.",
            inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 3, side, side)),),
            outputs=(TensorSpec(name="image_embedding", datatype="FP32", shape=(-1, config.dim)),),
            image=job.image,
            embedding="image_embedding",
            batching=Batching(max_batch_size=16),
            engine=Engine(reason=f"Exact: {image_errors['image_embedding']:.1e} of the largest value from PyTorch"),
            **shared,
        ),
        {**exported(image), **encoder_files(tower, image.parent)},
    )
    yield Version(
        Card(
            name=f"{job.name}-text",
            task="embed-text",
            title=f"{job.release.title}: text tower",
            description="Texts to unit vectors in the space that the image tower shares.",
            inputs=(TensorSpec(name="input_ids", datatype="INT64", shape=(-1, -1)),),
            outputs=(TensorSpec(name="text_embedding", datatype="FP32", shape=(-1, config.dim)),),
            # Longest, not the full context: the tower gives the same features, sooner.
            text=TextPreprocess(max_length=config.text.context_length, padding="longest", mask_input=None),
            embedding="text_embedding",
            batching=Batching(max_batch_size=64),
            engine=Engine(reason=f"Exact: {text_errors['text_embedding']:.1e} of the largest value from PyTorch"),
            limits=(f"Texts beyond {config.text.context_length} tokens are cut.", "English."),
            **shared,
        ),
        {**exported(text), "tokenizer.json": clip_tokenizer_json().encode()},
    )
    yield Version(
        Card(
            name=job.name,
            task="zero-shot-classify",
            title=job.release.title,
            description=(
                f"Unified contrastive learning ({job.release.paper}), trained on {job.release.trained_on}. Classifies "
                "pictures by names that the request gives, and puts pictures and texts into one space."
            ),
            pipeline=Pipeline(
                kind=PIPELINE,
                image_model=f"{job.name}-image",
                text_model=f"{job.name}-text",
                parameters={"scale": temperature, "templates": _templates()},
            ),
            measured=job.measured,
            limits=tuple(
                filter(None, ("It gives one of the names to every picture, whatever it shows.", job.release.note))
            ),
            **shared,
        ),
        {},
    )


def _templates() -> list[str]:
    lines = TEMPLATES.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
