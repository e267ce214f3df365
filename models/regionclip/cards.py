"""The five cards of a served RegionCLIP: map, anchors, regions, texts, and all of them as one detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
from models.catalog.detection import Detection
from models.catalog.geometry import ShorterSide
from models.regionclip.network import RegionCLIPConfig
from models.regionclip.recognition import TEMPERATURE

PIPELINE = "regionclip"
"""The kind of pipeline that serving knows these parts by."""

Role = Literal["maps", "anchors", "regions", "text"]
ROLES: tuple[Role, ...] = ("maps", "anchors", "regions", "text")

MOST_PROPOSALS = 300
"""Of a picture. The publication takes 1,000, which cost three times as much; what they find more was not measured."""

MEGAPIXELS = 3 * 1333 * 1333
"""Elements of the largest picture."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the cards say beyond the network itself. ``multiply``: scores are weighed by objectness."""

    name: str
    title: str
    description: str
    image: ShorterSide
    templates: Sequence[str]
    multiply: bool
    licence: Licence
    engines: dict[Role, Engine]
    provenance: tuple[Provenance, ...] = ()
    measured: tuple[Measurement, ...] = ()
    limits: tuple[str, ...] = ()


def part_names(name: str) -> tuple[str, ...]:
    """What the parts of a model are called."""
    return tuple(f"{name}-{role}" for role in ROLES)


def cards(config: RegionCLIPConfig, served: Served) -> dict[Role, Card]:
    """One card a part."""
    dim, width = config.image.dim, 16 * config.image.width
    assert config.text is not None

    def spec(name: str, *shape: int, datatype: Literal["FP32", "INT64"] = "FP32") -> TensorSpec:
        return TensorSpec(name=name, datatype=datatype, shape=(-1, *shape))

    picture = spec("image", 3, -1, -1)
    batching = Batching(max_batch_size=4, max_elements=MEGAPIXELS)
    return {
        "maps": _part(
            served,
            "maps",
            "Pictures to the map that regions are cut out of, a cell for 16 x 16 pixels.",
            inputs=(picture,),
            outputs=(spec("features", width, -1, -1),),
            image=served.image,
            batching=batching,
        ),
        "anchors": _part(
            served,
            "anchors",
            "Pictures to a box at every anchor, with objectness and the level of each; the best are proposals.",
            inputs=(picture,),
            outputs=(spec("anchor_boxes", -1, 4), spec("objectness", -1), spec("level", -1, datatype="INT64")),
            roles={"boxes": "anchor_boxes", "scores": "objectness"},
            image=served.image,
            batching=batching,
        ),
        "regions": _part(
            served,
            "regions",
            "Boxes of a map against class rows; the last logit is the background.",
            inputs=(spec("features", width, -1, -1), spec("boxes", -1, 4), spec("classes", -1, dim)),
            outputs=(spec("logits", -1, -1), spec("region_features", -1, dim), spec("detected_boxes", -1, 4)),
            roles={"boxes": "detected_boxes", "region_features": "region_features"},
            batching=Batching(max_batch_size=2),
        ),
        "text": _part(
            served,
            "text",
            "Texts to vectors of the space that regions are in, not brought to length one.",
            inputs=(spec("input_ids", -1, datatype="INT64"),),
            outputs=(spec("text_embedding", dim),),
            task="embed-text",
            roles={"embedding": "text_embedding"},
            text=TextPreprocess(
                max_length=config.text.context_length, padding="longest", mask_input=None, clean="clip"
            ),
            batching=Batching(max_batch_size=64),
            limits=(f"Texts beyond {config.text.context_length} tokens are cut.",),
        ),
    }


def pipeline(served: Served, parts: dict[Role, Card], per_level: int) -> Card:
    """The detector; ``per_level`` anchors of each level are looked at."""
    return Card(
        name=served.name,
        task="zero-shot-detect",
        family="regionclip",
        title=served.title,
        description=served.description,
        pipeline=Pipeline(
            kind=PIPELINE,
            parts={role: PartName(card.name, card.version) for role, card in parts.items()},
            parameters={
                "templates": list(served.templates),
                "temperature": TEMPERATURE,
                "multiply_objectness": served.multiply,
                "anchors_per_level": per_level,
                "proposal_overlap": 0.9,
                "most_proposals": MOST_PROPOSALS,
            },
        ),
        detection=Detection(threshold=0.3, nms_iou=0.5, max_detections=100),
        licence=served.licence,
        provenance=served.provenance,
        measured=served.measured,
        limits=(
            "A box's score is its share among the labels asked for and the background: with few labels it is high.",
            "English.",
            *served.limits,
        ),
        not_for=("Identifying or judging people",),
    )


def _part(served: Served, role: Role, description: str, **fields: object) -> Card:
    shared = {
        "name": f"{served.name}-{role}",
        "family": "regionclip",
        "title": f"{served.title}: {role}",
        "description": description,
        "engine": served.engines[role],
        "licence": served.licence,
        "provenance": served.provenance,
        "not_for": ("Identifying or judging people",),
    }
    return Card.model_validate({"task": "tensor", **shared, **fields})
