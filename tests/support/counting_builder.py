"""A builder for tests of pulling: copies the source file, counts its runs in a file, and fails when told to."""

from __future__ import annotations

import time
from pathlib import Path

from models.family import Build, Builder, Family, Files


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


FAMILY = Family(builders={"counting": Builder(build)})
