"""Makers for tests of pulling. The builder copies the source file, counts its runs in a file, and fails when told to;
the converter serves a checkpoint's own bytes, with a part beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from models.catalog.card import Card
from models.family import Build, Builder, Converter, Family, Files
from models.intake.conversion import Job, Version


def build(job: Build) -> Files:
    """``options``: ``log`` gets one line a run; ``seconds`` to take; ``fail`` raises after half the work."""
    with Path(str(job.options["log"])).open("a") as log:
        log.write(f"{job.card.name}\n")
    (job.scratch / "half").write_bytes(b"half")
    time.sleep(float(job.options.get("seconds", 0)))
    if job.options.get("fail"):
        raise RuntimeError("out of memory")
    (folder,) = job.sources.values()
    job.progress("export", 1, 1)
    return {"model.onnx": folder / "weights", "tokenizer.json": b"{}"}


def convert(job: Job) -> Iterator[Version]:
    """The part, then the model of the release's own name."""
    for name in (f"{job.name}-image", job.name):
        card = Card(
            name=name,
            task="tensor",
            family="test",
            title=job.release.title,
            description="",
            licence=job.release.licence,
            provenance=job.provenance,
        )
        yield Version(card, {"model.onnx": job.file})


CONVERTER = Converter(convert, fits=lambda state: {}, parts=lambda name: (f"{name}-image",))
FAMILY = Family(builders={"counting": Builder(build)}, converter=CONVERTER)
