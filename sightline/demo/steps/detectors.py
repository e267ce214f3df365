"""Detectors of our own: drawings by name and by where they are, and a detector fine-tuned on photos with boxes."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

from PIL import Image

from sightline.demo.stage import Stage, Step, check, ok
from sightline.demo.steps.detect import overlap, show
from sightline.demo.steps.jobs import run_job

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "data"
PLACES = {"owl": (20, 50, 84, 114), "wolf": (124, 20, 188, 84)}
"""Where the drawings of the scene are: left, top, right, bottom."""

LABELS = ["owl", "wolf", "guitar", "house"]


def _scene() -> str:
    """An owl on the left and a wolf on the right, on paper."""
    scene = Image.new("RGB", (208, 144), (236, 232, 220))
    for name, (left, top, right, bottom) in PLACES.items():
        with Image.open(EXAMPLES / "drawings" / f"{name}.png") as drawing:
            sized = drawing.convert("RGBA").resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        scene.paste(sized, (left, top), sized)
    data = io.BytesIO()
    scene.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def drawings(stage: Stage) -> None:
    """The model that was trained in this repository finds drawings in a style that it has not seen."""
    body = {"model": "glip-pocket", "image": _scene(), "labels": LABELS}
    result = ok(stage.http.post("/v1/detect", json=body)).json()["results"][0]
    stage.say("an owl and a wolf, drawn; labels: " + ", ".join(LABELS))
    show(stage, result)
    best = {one["label"]: one["box"] for one in reversed(result["detections"])}
    for name, place in PLACES.items():
        check(name in best and overlap(best[name], place) > 0.5, f"the {name} is at {place}, found {best.get(name)}")

    caption = "the owl left of the wolf"
    asked = {"model": "glip-pocket", "image": body["image"], "caption": caption}
    phrases = ok(stage.http.post("/v1/ground", json=asked)).json()["results"][0]["phrases"]
    found = next(phrase for phrase in phrases if "owl" in phrase["text"])
    stage.say(f"{caption!r}: {found['text']} at {' '.join(f'{edge:.0f}' for edge in found['boxes'][0]['box'])}")
    check(overlap(found["boxes"][0]["box"], PLACES["owl"]) > 0.5, f"the owl is at {PLACES['owl']}")


def finetune(stage: Stage) -> None:
    """Twenty-four photos with boxes, in COCO's form, to a detector of their two classes."""
    archive = EXAMPLES / "forks-scissors.zip"
    headers = {"content-type": "application/zip"}
    sent = stage.http.post("/v1/datasets", params={"name": "cutlery"}, content=archive.read_bytes(), headers=headers)
    dataset = ok(sent, 201).json()
    stage.say(f"{dataset['name']}: {', '.join(dataset['classes'])}; images: {dataset['counts']}")
    check(dataset["counts"] == {"train": 24, "test": 8}, f"24 and 8 images were sent, counted: {dataset['counts']}")

    parameters = {"dataset": "cutlery", "model": "nanodet-coco", "method": "linear_probe", "name": "my-cutlery"}
    result = run_job(stage, "finetune", parameters)["result"]
    stage.say(f"{result['model']} version {result['version']}: {result['scores']}")

    with zipfile.ZipFile(archive) as bundle:
        name = next(one for one in sorted(bundle.namelist()) if one.startswith("test/") and one.endswith(".jpg"))
        photo = base64.b64encode(bundle.read(name)).decode()
    asked = {"model": "my-cutlery", "image": photo, "max_detections": 3}
    found = ok(stage.http.post("/v1/detect", json=asked)).json()["results"][0]
    stage.say(f"{name} through the new detector")
    show(stage, found)
    wanted = "scissors" if "scissors" in name else "fork"
    labels = [one["label"] for one in found["detections"]]
    check(labels[:1] == [wanted], f"the best box is {wanted}, got {labels or 'nothing'}")


STEPS = (
    Step("Drawings are found by name, and by where they are", drawings),
    Step("A job fine-tunes a detector on photos with boxes, and it answers", finetune),
)
