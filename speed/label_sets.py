"""``python -m speed.label_sets``: what a large label set costs the first time, the second, and after a restart.

The 1,000 names of ImageNet in 81 templates through a dual encoder's text tower, asked as a request asks: one picture,
top five. With ``--model`` a model of the repository; without, a UniCL of the published size (Swin-T, a text tower of
63 million parameters) with random weights, which do not change the time. Requests that run out of time are sent again,
as a client would; how many it took is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.catalog.card import Batching, Engine, Licence
from models.catalog.geometry import ImagePreprocess
from models.catalog.labels import label_set
from models.repository.reading import MODEL, installed
from models.repository.writer import write_version
from models.text.clip_bpe import clip_tokenizer_json
from models.unicl.cards import Served, cards
from models.unicl.export import export_image, export_text
from models.unicl.network import UniCL
from models.unicl.report import replaced
from models.unicl.variants import VARIANTS
from services.classification import Classification, ClassifyRequest
from services.encoding.templates import named
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.loaded import components_of
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages


def build(root: Path, precision: str) -> str:
    """Write a UniCL of the published size into the repository ``root``; its name."""
    model = UniCL(VARIANTS["unicl_swin_tiny"]).eval()
    image, text = root.parent / "image" / MODEL, root.parent / "text" / MODEL
    for target in (image, text):
        target.parent.mkdir(parents=True)
    export_image(model, image, 224)
    export_text(model, text)
    engine = Engine() if precision == "fp32" else Engine(name="openvino", precision="bf16")
    served = Served(
        name="unicl-random",
        title="UniCL with random weights",
        description="For benchmarks.",
        image=ImagePreprocess(size=224),
        scale=100.0,
        templates=("a photo of a {}.",),
        licence=Licence(spdx="CC0-1.0"),
        image_engine=engine,
        text_engine=engine,
        image_batching=Batching(max_batch_size=16),
    )
    files: tuple[dict[str, Path | bytes], ...] = (
        {MODEL: image},
        {MODEL: text, "tokenizer.json": clip_tokenizer_json().encode()},
        {},
    )
    for card, content in zip(cards(model.config, served), files, strict=True):
        write_version(root, card, content)
    return served.name


async def measure(
    settings: Settings, model: str, labels: Sequence[str], template_set: str
) -> list[tuple[str, float, int]]:
    """Seconds of the first answer, the second, and the first of a new process; and how many requests each took."""
    rng = np.random.default_rng(0)
    picture = Picture(Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)), 400, 300, "PNG")
    backend = OnnxBackend(settings)
    await backend.start()

    async def ask(service: Classification) -> tuple[float, int]:
        begin, requests = time.perf_counter(), 0
        while True:
            requests += 1
            request = ClassifyRequest([picture], labels=labels, template_set=template_set)
            try:
                with await backend.resolve(model) as handle:
                    await service.classify(handle, request, Options.within(settings.deadline), Stages())
            except Problem as problem:
                if problem.kind not in (Kind.DEADLINE, Kind.TOO_MANY):
                    raise
                continue
            return time.perf_counter() - begin, requests

    try:
        service = Classification(backend, settings)
        found = [("first answer", *await ask(service)), ("second answer", *await ask(service))]
        return [*found, ("first answer after a restart", *await ask(Classification(backend, settings)))]
    finally:
        await backend.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m speed.label_sets", description=__doc__)
    parser.add_argument("--model", help="a dual encoder or other open-vocabulary model of the repository")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the random network")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--templates", default="imagenet-81", help="a named template set")
    parser.add_argument("--write", type=Path, help="page whose table `label-sets` is exchanged")
    given = parser.parse_args(arguments)
    labels = label_set("imagenet-1k")[: given.classes]
    lines = [
        "| text tower | texts | answer | seconds | requests of at most "
        f"{Settings().deadline:.0f} s |\n| --- | --- | --- | --- | --- |"
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", log_level="warning")
        if given.model:
            own = Settings().models_dir
            needed = _with_towers(own, given.model)
            settings.models_dir.mkdir(parents=True)
            for name in needed:
                shutil.copytree(own / name, settings.models_dir / name)  # a repository follows no links
            name = given.model
        else:
            name = build(settings.models_dir, given.precision)
        texts = len(labels) * len(named(given.templates))
        about = given.model or f"UniCL, 63 M, {given.precision}"
        for answer, seconds, requests in asyncio.run(measure(settings, name, labels, given.templates)):
            lines.append(f"| {about} | {texts:,} | {answer} | {seconds:.3f} | {requests} |")
    print("\n".join(lines))
    if given.write:
        given.write.write_text(replaced(given.write.read_text("utf-8"), "label-sets", lines), "utf-8")


def _with_towers(root: Path, model: str) -> list[str]:
    found = [one.card for one in installed(root) if one.name == model and one.card is not None]
    if not found:
        raise SystemExit(f"{model} is not in {root}: sightline models list shows what there is")
    return [model, *components_of(found[-1])]


if __name__ == "__main__":
    main()
