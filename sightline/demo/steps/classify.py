"""Photos against free labels and against a closed set, in the three ways that an image can be sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from sightline.demo.stage import Stage, Step, check, ok

LABELS = ["a cat", "a cup of coffee", "a rocket", "a motorcycle", "a dog", "a bicycle", "a bus", "a pizza"]


def _show(stage: Stage, result: Mapping[str, Any], right: set[str]) -> None:
    """Show the best labels of one image; the first must be a right one."""
    scores = [(prediction["label"], prediction["score"]) for prediction in result["predictions"]]
    stage.show_scores(scores[:3])
    check(bool(scores) and scores[0][0] in right, f"expected {' or '.join(sorted(right))}, got {scores[:1]}")


def as_json(stage: Stage) -> None:
    photo = base64.b64encode(stage.photo("chelsea.png").read_bytes()).decode()
    body = {"model": "photo-zero-shot", "image": photo, "labels": LABELS}
    answer = ok(stage.http.post("/v1/classify", json=body)).json()
    stage.say(f"chelsea.png as base64 in JSON, {len(LABELS)} labels of our own, model {answer['model']}")
    _show(stage, answer["results"][0], {"a cat"})


def as_multipart(stage: Stage) -> None:
    request = json.dumps({"model": "photo-zero-shot", "labels": LABELS})
    files = [
        ("image", ("coffee.png", stage.photo("coffee.png").read_bytes(), "image/png")),
        ("image", ("motorcycle.png", stage.photo("motorcycle_left.png").read_bytes(), "image/png")),
    ]
    answer = ok(stage.http.post("/v1/classify", files=files, data={"request": request})).json()
    stage.say("coffee.png and motorcycle_left.png as parts of a form")
    for result, right in zip(answer["results"], ("a cup of coffee", "a motorcycle"), strict=True):
        _show(stage, result, {right})


def as_body(stage: Stage) -> None:
    answer = ok(
        stage.http.post(
            "/v1/classify",
            params={"model": "photo-zero-shot", "labels": ",".join(LABELS), "top_k": 3},
            content=stage.photo("rocket.jpg").read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )
    )
    stage.say(f"rocket.jpg as the body; Server-Timing: {answer.headers['server-timing']}")
    _show(stage, answer.json()["results"][0], {"a rocket"})


def closed_set(stage: Stage) -> None:
    wanted = {
        "chelsea.png": {"tabby cat", "tiger cat", "Egyptian Mau", "Egyptian cat"},
        "coffee.png": {"espresso", "cup", "coffee mug"},
    }
    for name, right in wanted.items():
        image = base64.b64encode(stage.photo(name).read_bytes()).decode()
        body = {"model": "efficientnet-lite2", "image": image, "top_k": 3}
        stage.say(f"{name} among the 1000 classes of ImageNet")
        _show(stage, ok(stage.http.post("/v1/classify", json=body)).json()["results"][0], right)


STEPS = (
    Step("Which of these is it? A photo, and labels nobody trained for", as_json),
    Step("Two photos in one multipart request", as_multipart),
    Step("A raw image body, labels in the address", as_body),
    Step("A closed-set classifier needs no labels", closed_set),
)
