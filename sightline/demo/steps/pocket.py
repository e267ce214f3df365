"""The model that was trained in this repository: drawings in a style new to it, named and compared with texts."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from services.settings import Settings
from sightline.demo.stage import Stage, Step, check, ok

MODEL = "unicl-pocket"
DRAWINGS = Path(__file__).resolve().parents[3] / "examples" / "data" / "drawings"
LABELS = ["owl", "parachute", "tiger", "wolf", "sailboat", "locomotive", "guitar", "house", "key", "sunflower"]
SEEN, UNSEEN = "owl", "sailboat"


def _image(name: str) -> str:
    return base64.b64encode((DRAWINGS / f"{name}.png").read_bytes()).decode()


def classify(stage: Stage) -> None:
    for name, about in ((SEEN, "other drawings of it were trained on"), (UNSEEN, "nothing of it was trained on")):
        body = {"model": MODEL, "image": _image(name), "labels": LABELS, "top_k": 3}
        result = ok(stage.http.post("/v1/classify", json=body)).json()["results"][0]
        stage.say(f"a drawing, {name} ({about}), {len(LABELS)} labels")
        scores = [(prediction["label"], prediction["score"]) for prediction in result["predictions"]]
        stage.show_scores(scores)
        check(scores[0][0] == name, f"expected {name}, got {scores[0]}")


def embed(stage: Stage) -> None:
    texts = ok(stage.http.post("/v1/embeddings", json={"model": MODEL, "input": LABELS[:6]})).json()["data"]
    image = ok(stage.http.post("/v1/embeddings", json={"model": MODEL, "image": _image(SEEN)})).json()["data"][0]
    cosines = [sum(a * b for a, b in zip(image["embedding"], text["embedding"], strict=True)) for text in texts]
    stage.say(f"the drawing and {len(texts)} words as {len(image['embedding'])} numbers each; their cosines")
    ranked = sorted(zip(LABELS, cosines, strict=False), key=lambda pair: -pair[1])
    stage.show_scores([(label, max(cosine, 0)) for label, cosine in ranked[:3]])
    check(ranked[0][0] == SEEN, f"expected {SEEN} to be nearest, got {ranked[0]}")


def explain(stage: Stage) -> None:
    body = {"model": MODEL, "image": _image(SEEN), "labels": LABELS, "explain": True}
    result = ok(stage.http.post("/v1/classify", json=body)).json()["results"][0]
    explanation = result["explanation"]
    png = base64.b64decode(explanation["image"].partition(",")[2])
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        shades = {colour for _, colour in picture.convert("RGB").resize((32, 32)).getcolors(1024) or ()}
    path = Settings().data_dir / "demo" / f"{SEEN}-modulation.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    stage.say(f"its {explanation['method']} map over the {SEEN}, {picture.width} x {picture.height}: {path}")
    check(len(shades) > 16, f"the map has only {len(shades)} colours")


STEPS = (
    Step("The model that was trained here, on drawings of a style it never saw", classify),
    Step("Its pictures and texts lie in one space", embed),
    Step("Where its focal modulation was strong, as a heat map", explain),
)
