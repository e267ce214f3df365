"""Where things are on photos: labels of our own, a closed set, an example box, and the phrases of a caption."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from services.settings import Settings
from sightline.demo.stage import Stage, Step, check, ok

CUP = (170, 16, 421, 260)
"""Where the cup of coffee.png is, as looked at: left, top, right, bottom."""


def _photo(stage: Stage, name: str) -> str:
    return base64.b64encode(stage.photo(name).read_bytes()).decode()


def overlap(box: list[float], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    common = max(wide, 0) * max(high, 0)
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (box, other)]
    return common / (sum(areas) - common)


def show(stage: Stage, result: Mapping[str, Any]) -> None:
    """The best three boxes."""
    for one in result["detections"][:3]:
        places = " ".join(f"{edge:.0f}" for edge in one["box"])
        stage.say(f"{one['label']} {one['score']:.2f} at {places}")


def open_vocabulary(stage: Stage) -> None:
    body = {"image": _photo(stage, "coffee.png"), "labels": ["cup", "zebra"], "threshold": 0.5, "render": True}
    answer = ok(stage.http.post("/v1/detect", json=body)).json()
    result = answer["results"][0]
    stage.say(f"coffee.png, labels of our own, model {answer['model']}")
    show(stage, result)
    presence = {entry["label"]: entry["score"] for entry in result["presence"]}
    stage.say(f"in the photo at all: cup {presence['cup']:.0%}, zebra {presence['zebra']:.1%}")
    check({one["label"] for one in result["detections"]} == {"cup"}, "a cup is there, and no zebra")
    check(overlap(result["detections"][0]["box"], CUP) > 0.7, f"the cup is at {CUP}")
    check(presence["cup"] > 0.8 and presence["zebra"] < 0.1, f"expected a cup and no zebra, got {presence}")

    head, _, data = result["rendered"].partition(",")
    path = Settings().data_dir / "demo" / f"coffee-detected.{'jpg' if 'jpeg' in head else 'png'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(data))
    stage.say(f"drawn into {path}")


def closed_set(stage: Stage) -> None:
    body = {"model": "nanodet-coco", "image": _photo(stage, "motorcycle_left.png"), "threshold": 0.5}
    result = ok(stage.http.post("/v1/detect", json=body)).json()["results"][0]
    stage.say(f"motorcycle_left.png among the {len(result['presence'])} names of COCO")
    show(stage, result)
    labels = {one["label"] for one in result["detections"]}
    check(labels == {"motorcycle"}, f"expected a motorcycle, got {labels or 'nothing'}")


def ground(stage: Stage) -> None:
    caption = "a cup, a spoon and a zebra"
    body = {"image": _photo(stage, "coffee.png"), "caption": caption, "threshold": 0.3}
    phrases = ok(stage.http.post("/v1/ground", json=body)).json()["results"][0]["phrases"]
    stage.say(f"coffee.png, and what is said of it: {caption!r}")
    for phrase in phrases:
        begin, end = phrase["span"]
        check(caption[begin:end] == phrase["text"], f"{phrase['text']!r} is not at {begin} to {end}")
        place = " ".join(f"{edge:.0f}" for edge in phrase["boxes"][0]["box"]) if phrase["boxes"] else "nowhere"
        stage.say(f"{phrase['text']}: {place}, there with {phrase['presence']:.0%}")
    cup, spoon, zebra = phrases
    check(bool(cup["boxes"]) and overlap(cup["boxes"][0]["box"], CUP) > 0.7, f"the cup is at {CUP}")
    check(bool(spoon["boxes"]) and not zebra["boxes"], "there is a spoon, and no zebra")


STEPS = (
    Step("Where is it, and is it there at all? Labels of our own in a photo", open_vocabulary),
    Step("A closed-set detector finds its own classes", closed_set),
    Step("A caption is grounded phrase by phrase", ground),
)
