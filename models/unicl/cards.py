"""The three cards of a served UniCL: its image tower, its text tower, and both as one open-vocabulary classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.backbones.focalnet import FocalNetConfig
from models.catalog.card import (
    Batching,
    Card,
    Engine,
    Licence,
    Measurement,
    PartName,
    Pipeline,
    Provenance,
    TensorSpec,
    TextPreprocess,
)
from models.catalog.geometry import ImagePreprocess
from models.unicl.network import UniCLConfig

PIPELINE = "dual-encoder"
"""The kind of pipeline that serving knows two towers of one space by."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the cards say beyond the network itself. ``scale`` is the learned temperature, as a factor."""

    name: str
    title: str
    description: str
    image: ImagePreprocess
    scale: float
    templates: Sequence[str]
    licence: Licence
    image_engine: Engine
    text_engine: Engine
    image_batching: Batching
    family: str = "unicl"
    version: str = "1"
    provenance: tuple[Provenance, ...] = ()
    measured: tuple[Measurement, ...] = ()
    tower_measured: tuple[tuple[Measurement, ...], tuple[Measurement, ...]] = ((), ())
    """Of the image and of the text tower alone: what an inexact export costs."""
    limits: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()


def tower_names(name: str) -> tuple[str, str]:
    """Return what the image and the text tower of a model are called."""
    return f"{name}-image", f"{name}-text"


def cards(config: UniCLConfig, served: Served) -> tuple[Card, Card, Card]:
    """Image tower, text tower, both."""
    image_name, text_name = tower_names(served.name)
    focal = isinstance(config.image, FocalNetConfig)
    side = -1 if focal else served.image.size
    looks = (TensorSpec(name="modulation", datatype="FP32", shape=(-1, -1, -1)),) if focal else ()
    image = Card(
        name=image_name,
        version=served.version,
        task="embed-image",
        family=served.family,
        title=f"{served.title}: image tower",
        description="Pictures to unit vectors in the space that the text tower shares."
        + (" The modulation map shows where it looked." if focal else ""),
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 3, side, side)),),
        outputs=(TensorSpec(name="image_embedding", datatype="FP32", shape=(-1, config.dim)), *looks),
        image=served.image,
        roles={"embedding": "image_embedding", **({"modulation": "modulation"} if focal else {})},
        batching=served.image_batching,
        engine=served.image_engine,
        licence=served.licence,
        provenance=served.provenance,
        measured=served.tower_measured[0],
        not_for=served.not_for,
    )
    text = Card(
        name=text_name,
        version=served.version,
        task="embed-text",
        family=served.family,
        title=f"{served.title}: text tower",
        description="Texts to unit vectors in the space that the image tower shares.",
        inputs=(TensorSpec(name="input_ids", datatype="INT64", shape=(-1, -1)),),
        outputs=(TensorSpec(name="text_embedding", datatype="FP32", shape=(-1, config.dim)),),
        # Longest, not the full context: the tower gives the same features, sooner.
        text=TextPreprocess(max_length=config.text.context_length, padding="longest", mask_input=None),
        roles={"embedding": "text_embedding"},
        batching=Batching(max_batch_size=64),
        engine=served.text_engine,
        licence=served.licence,
        provenance=served.provenance,
        measured=served.tower_measured[1],
        limits=(f"Texts beyond {config.text.context_length} tokens are cut.",),
        not_for=served.not_for,
    )
    both = Card(
        name=served.name,
        version=served.version,
        task="zero-shot-classify",
        family=served.family,
        title=served.title,
        description=served.description,
        pipeline=Pipeline(
            kind=PIPELINE,
            parts={"image": PartName(image_name, served.version), "text": PartName(text_name, served.version)},
            parameters={"scale": served.scale, "templates": list(served.templates)},
        ),
        licence=served.licence,
        provenance=served.provenance,
        measured=served.measured,
        limits=("It gives one of the names to every picture, whatever it shows.", *served.limits),
        not_for=served.not_for,
    )

    return image, text, both


def pinned(pair: Card, image: Card, text: Card) -> Card:
    """``pair`` with the versions of these two towers as its parts."""
    assert pair.pipeline is not None
    parts = {"image": PartName(image.name, image.version), "text": PartName(text.name, text.version)}
    return pair.model_copy(update={"pipeline": pair.pipeline.model_copy(update={"parts": parts})})
