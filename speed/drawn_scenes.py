"""What the served detectors of drawings score on composed scenes, and what their cards' presence is fitted to.

``python -m speed.drawn_scenes MODEL --data DIR --data-dir DIR`` asks a model of the repository as a request would
(``services.detection``), and writes ``docs/models/MODEL/measures.json``. ``--calibrate`` runs on the validation style
instead and prints what the card is to say of presence and of the threshold. ``--data`` is the folder of ``sightline
datasets build pictographs`` after ``python -m models.glip.pocket.rows``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.glip.pocket.captions import Sample
from models.glip.pocket.drawings import Drawings
from models.glip.pocket.measures import (
    SUITES,
    VALIDATION,
    Answer,
    Array,
    Suite,
    auroc,
    average_precision,
    calibration_error,
    colour_scenes,
    named_scenes,
    overlaps,
    pointed,
    relation_scenes,
    truth,
)
from services.detection.drawn import OUTPUTS, DrawnThings
from services.detection.drawn_regions import DrawnRegions
from services.detection.drawn_scores import proposals
from services.detection.kinds import open_kind
from services.detection.protocol import Caption, GroundsCaptions, Vocabulary
from services.encoding.class_rows import ClassRows
from services.encoding.images import run_images
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import ModelHandle, Options, as_float32
from services.settings import Settings
from services.stages import Stages

Booleans = NDArray[np.bool_]
RELATED = ("fluent-3d", "openmoji")
THRESHOLDS = np.arange(0.02, 0.6, 0.02)


class Asking:
    """One served model, asked directly: everything that it finds, nothing left out."""

    def __init__(self, model: ModelHandle, settings: Settings) -> None:
        self._model = model
        self._kind = open_kind(model, ClassRows(settings))

    @property
    def reads_captions(self) -> bool:
        """Whether a caption is more to it than its phrases."""
        return isinstance(self._kind, GroundsCaptions)

    async def labels(self, sample: Sample) -> Answer:
        """The names of a scene as labels."""
        asked = Vocabulary.of(sample.words)
        async for found in self._kind.detect([_picture(sample)], [asked], Options(), Stages()):
            return Answer(found.boxes.astype(float), found.scores.astype(float), found.presence.astype(float))
        raise AssertionError

    async def caption(self, sample: Sample) -> Answer:
        """The text of a scene as a caption, asked of a kind that reads captions."""
        text, spans = _caption(sample)
        assert isinstance(self._kind, GroundsCaptions)
        finding = self._kind.ground([_picture(sample)], [Caption(text, spans)], Options(), Stages())
        async for found in finding:
            return Answer(found.boxes.astype(float), found.scores.astype(float), found.presence.astype(float))
        raise AssertionError

    async def things(self, sample: Sample) -> tuple[Array, Array]:
        """Boxes and how sure the network is that each shows something, whatever it is called."""
        picture, kind, stages = _picture(sample), self._kind, Stages()
        if isinstance(kind, DrawnThings):
            levels = await run_images(self._model.parts["image"], [picture], ("p3", "p4", "p5"), Options(), stages)
            said = await kind.ask(levels, sample.words[:20], Options(), stages)
        else:
            assert isinstance(kind, DrawnRegions)
            outputs = await run_images(self._model.parts["proposals"], [picture], OUTPUTS[1:], Options(), stages)
            said = {name: as_float32(outputs[name]) for name in OUTPUTS[1:]}
        found = proposals(*(said[name][0] for name in OUTPUTS[1:]), 160, most=100, iou=0.6)
        return found.boxes.astype(float), found.sure.astype(float)


async def measure(asking: Asking, drawings: Drawings, scenes: int) -> list[dict[str, object]]:
    """One row a suite."""
    rows: list[dict[str, object]] = []
    for suite in SUITES:
        row = await _named(asking, drawings, suite, scenes)
        if suite.style in RELATED and not suite.unseen and asking.reads_captions:
            row |= await _pointing(asking, drawings, suite, scenes)
        rows.append({"suite": suite.title, "scenes": scenes, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


async def _named(asking: Asking, drawings: Drawings, suite: Suite, scenes: int) -> dict[str, float]:
    found, things, likely, there = [], [], [], []
    for sample in named_scenes(drawings, suite, scenes):
        answer = await asking.labels(sample)
        boxes, names = truth(sample)
        found += [(answer.boxes, answer.scores[:, name], boxes[names == name]) for name in range(len(sample.words))]
        things.append((*await asking.things(sample), boxes))
        likely += answer.presence.tolist()
        there += [bool((names == name).any()) for name in range(len(sample.words))]
    presence, positive = np.array(likely), np.array(there)
    return {
        "boxes": sum(len(boxes) for _, _, boxes in things),
        "without names": round(average_precision(things), 1),
        "named": round(average_precision(found), 1),
        "presence AUROC": round(100 * auroc(presence, positive), 1),
        "presence error": round(calibration_error(presence, positive), 1),
    }


async def _pointing(asking: Asking, drawings: Drawings, suite: Suite, scenes: int) -> dict[str, float]:
    """How often the best box of a caption's subject is the one that is meant; by chance it is one of the two."""
    related = [
        pointed(await asking.caption(sample), 0, np.array(sample.scene.things[1].box))
        for sample in relation_scenes(drawings, suite, scenes)
    ]
    coloured = [
        pointed(await asking.caption(sample), 0, np.array(sample.scene.things[0].box))
        for sample in colour_scenes(drawings, suite, scenes)
    ]
    return {"relations": round(100 * float(np.mean(related)), 1), "colours": round(100 * float(np.mean(coloured)), 1)}


async def calibrate(asking: Asking, drawings: Drawings, scenes: int) -> dict[str, float]:
    """Platt's scaling of the best score of each name, and the threshold of the best F1, on the validation style."""
    best, there = [], []
    scores, right, total = [], [], 0
    for sample in named_scenes(drawings, VALIDATION, scenes):
        answer = await asking.labels(sample)
        boxes, names = truth(sample)
        total += len(boxes)
        for name in range(len(sample.words)):
            own = answer.scores[:, name]
            best.append(float(own.max(initial=0)))
            there.append(bool((names == name).any()))
            shared = overlaps(answer.boxes, boxes[names == name]).max(axis=1, initial=0)
            scores += own.tolist()
            right += (shared >= 0.5).tolist()
    slope, offset = platt(np.array(best), np.array(there))
    sure, fits = np.array(scores), np.array(right)
    measures = [2 * fits[sure >= least].sum() / max((sure >= least).sum() + total, 1) for least in THRESHOLDS]
    threshold = float(THRESHOLDS[int(np.argmax(measures))])
    return {"slope": round(slope, 3), "offset": round(offset, 3), "threshold": round(threshold, 2)}


def platt(best: Array, there: Booleans) -> tuple[float, float]:
    """Slope and offset of a logistic regression of ``there`` on the logits of ``best``, by Newton's method."""
    share = best.clip(1e-9, 1 - 1e-9)
    table = np.stack([np.log(share) - np.log1p(-share), np.ones(len(share))], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(50):
        likely = 0.5 * (1 + np.tanh(0.5 * table @ found))
        curve = (table * (likely * (1 - likely))[:, None]).T @ table + 1e-6 * np.eye(2)
        found -= np.linalg.solve(curve, table.T @ (likely - there))
    return float(found[0]), float(found[1])


def _picture(sample: Sample) -> Picture:
    image = Image.fromarray(sample.scene.picture)
    return Picture(image, image.width, image.height, "PNG")


def _caption(sample: Sample) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The tokens of a scene as a sentence, and where its phrases are in it."""
    text, spans, begins = "", [], {phrase.first: phrase for phrase in sample.phrases}
    place = 0
    while place < len(sample.words):
        text += " " if text else ""
        phrase = begins.get(place)
        last = place + 1 if phrase is None else phrase.last
        said = " ".join(sample.words[place:last])
        if phrase is not None:
            said = f"the {said}"
            spans.append((len(text), len(text) + len(said)))
        text += said
        place = last
    return text, tuple(spans)


async def run(options: argparse.Namespace) -> None:
    settings = Settings(data_dir=options.data_dir, preload=[options.model])
    backend, drawings = OnnxBackend(settings), Drawings(options.data)
    await backend.start()
    try:
        with await backend.resolve(options.model) as model:
            asking = Asking(model, settings)
            if options.calibrate:
                print(json.dumps(await calibrate(asking, drawings, options.scenes)))
                return
            rows = await measure(asking, drawings, options.scenes)
    finally:
        await backend.close()
    into = options.into or Path("docs/models") / options.model / "measures.json"
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["glip-pocket", "regionclip-pocket"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the model repository is")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--into", type=Path)
    asyncio.run(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
