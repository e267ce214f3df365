"""The four cards of a served GLIP: its three graphs, and the detector that they are parts of."""

from __future__ import annotations

from models.catalog.card import (
    Batching,
    Card,
    PartName,
    Pipeline,
    TensorSpec,
    TextPreprocess,
)
from models.catalog.detection import Detection
from models.catalog.geometry import ShorterSide
from models.glip.export import LEVELS, MAX_TOKENS, STRIDE
from models.glip.network import GlipConfig
from models.intake.conversion import Job

PIPELINE = "glip"
"""The kind of pipeline that serving knows them by."""

ROLES = ("text", "image", "head")
"""The parts by their role; each is a model of that name behind the detector's."""


def part_names(name: str) -> tuple[str, ...]:
    """Return what the parts of a model are called."""
    return tuple(f"{name}-{role}" for role in ROLES)


def cards(config: GlipConfig, job: Job) -> dict[str, Card]:
    """By role, the detector itself under ``detector``."""
    width, channels = config.head.text_width, config.head.channels
    levels = tuple(TensorSpec(name=level, datatype="FP32", shape=(-1, channels, -1, -1)) for level in LEVELS)
    tokens = TensorSpec(name="tokens", datatype="FP32", shape=(-1, -1, width))
    ids = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, -1)) for name in ("input_ids", "attention_mask"))
    text, image, head = part_names(job.name)

    def part(name: str, **fields: object) -> Card:
        return Card.model_validate(
            {
                "name": name,
                "task": "tensor",
                "family": "glip",
                "licence": job.release.licence,
                "provenance": job.provenance,
                "not_for": _NOT_FOR,
                **fields,
            }
        )

    return {
        "text": part(
            text,
            title=f"{job.release.title}: text",
            description="Words of a prompt to one vector a token, which the head reads.",
            inputs=ids,
            outputs=(tokens,),
            text=TextPreprocess(max_length=MAX_TOKENS),
            batching=Batching(max_batch_size=16),
        ),
        "image": part(
            image,
            title=f"{job.release.title}: picture",
            description="A picture to the five levels of its pyramid, strides 8 to 128.",
            inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 3, -1, -1)),),
            outputs=levels,
            image=_geometry(job),
            batching=Batching(max_batch_size=4),
        ),
        "head": part(
            head,
            title=f"{job.release.title}: head",
            description="Levels and tokens to a logit for every place and token, box deltas and centerness.",
            inputs=(*levels, tokens, ids[1]),
            outputs=(
                TensorSpec(name="logits", datatype="FP32", shape=(-1, -1, -1)),
                TensorSpec(name="deltas", datatype="FP32", shape=(-1, -1, 4)),
                TensorSpec(name="centerness", datatype="FP32", shape=(-1, -1)),
            ),
            batching=Batching(max_batch_size=4),
        ),
        "detector": Card(
            name=job.name,
            task="zero-shot-detect",
            family="glip",
            title=job.release.title,
            description=(
                f"Detection as grounding ({job.release.paper}), trained on {job.release.trained_on}. Finds boxes for "
                "labels, and for the phrases of a caption, which it reads as a whole."
            ),
            pipeline=Pipeline(
                kind=PIPELINE,
                parts={role: PartName(name, "1") for role, name in zip(ROLES, part_names(job.name), strict=True)},
            ),
            detection=Detection(threshold=0.3, nms_iou=0.6, max_detections=100, inclusive=True),
            licence=job.release.licence,
            measured=job.measured,
            limits=tuple(filter(None, ("English.", _CHUNKS, job.release.note))),
            not_for=_NOT_FOR,
        ),
    }


_CHUNKS = (
    f"It reads {MAX_TOKENS} tokens at once: more labels are asked for in several runs, which see nothing of each other."
)
_NOT_FOR = ("Identifying or judging people",)


def _geometry(job: Job) -> ShorterSide:
    """Mean and deviation of blue, green and red are those of ImageNet, and what lies beside the picture is zero."""
    sides = job.release.image
    return ShorterSide(size=sides.size, max_size=sides.resize, multiple=STRIDE, channels="bgr")
