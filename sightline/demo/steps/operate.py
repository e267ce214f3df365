"""What an operator sees: errors that say what to do, models, metrics."""

from __future__ import annotations

import base64

from sightline.demo.stage import Stage, Step, check, ok


def refusal(stage: Stage) -> None:
    torn = stage.photo("rocket.jpg").read_bytes()[:5000]
    body = {"model": "photo-zero-shot", "image": base64.b64encode(torn).decode(), "labels": ["a rocket"]}
    problem = ok(stage.http.post("/v1/classify", json=body), 422).json()
    stage.say(f"{problem['status']} {problem['error']['code']}: {problem['detail']}")
    stage.say(f"where: {problem['pointer']}; what to do: {problem['remedy']}")
    check(problem["pointer"] == "/image", f"the pointer is {problem['pointer']}")


def metrics(stage: Stage) -> None:
    text = ok(stage.http.get("/metrics")).text
    lines = [
        line for line in text.splitlines() if line.startswith("sightline_requests_total{") and 'code="200"' in line
    ]
    for line in lines:
        stage.say(line)
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if 'task="classify"' in line)
    check(counted >= 4, f"{counted:g} classifications counted, there were more")


STEPS = (
    Step("Half a photo is refused, with the reason", refusal),
    Step("Metrics for Prometheus", metrics),
)
