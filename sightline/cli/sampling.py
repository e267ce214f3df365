"""One picture through a detector that was just imported: whether its boxes are where they should be, a person sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.catalog.card import Card
    from services.settings import Settings


def draw(settings: Settings, card: Card, picture: Path, target: Path) -> dict[str, Any]:
    """Write ``picture`` with its boxes to ``target``, or beside it as PNG; return how many, the best, and the file.

    Raises what is wrong with the picture, or with what the model gives.
    """
    import asyncio  # takes a while, and --help wants none of it

    return asyncio.run(_draw(settings, card, picture, target))


async def _draw(settings: Settings, card: Card, picture: Path, target: Path) -> dict[str, Any]:
    from services.detection import Detecting, DetectRequest
    from services.media.image import read_picture
    from services.media.intake import Limits
    from services.runtime.onnx.backend import OnnxBackend
    from services.runtime.protocol import Options
    from services.runtime.served import NoObserver
    from services.stages import Stages

    # The embedded engine, whatever the server uses, with nothing else loaded.
    alone = settings.model_copy(update={"runtime": "onnx", "preload": (card.name,)})
    image = read_picture(picture.read_bytes(), Limits.of(settings))
    backend = OnnxBackend(alone, observer=NoObserver())
    await backend.start()
    try:
        with await backend.resolve(card.name, card.version) as model:
            answer = await Detecting(backend, alone).detect(
                model, DetectRequest([image], render=True), Options(), Stages()
            )
    finally:
        await backend.close()

    (found,) = answer.results
    assert found.rendered is not None
    file = target if image.format == "JPEG" else target.with_suffix(".png")
    file.write_bytes(found.rendered)
    best = f"{found.detections[0].label} {found.detections[0].score:.2f}" if found.detections else "none"
    return {"file": str(file), "boxes": len(found.detections), "best": best}
