"""The Open Inference Protocol: what a Triton client sees."""

from __future__ import annotations

from sightline.demo.stage import Stage, Step, check, ok


def metadata(stage: Stage) -> None:
    server = ok(stage.http.get("/v2")).json()
    stage.say(f"{server['name']} {server['version']}, extensions: {', '.join(server['extensions'])}")
    ok(stage.http.get("/v2/models/efficientnet-lite2/ready"))
    model = ok(stage.http.get("/v2/models/efficientnet-lite2")).json()
    for kind in ("inputs", "outputs"):
        tensors = ", ".join(f"{tensor['name']} {tensor['datatype']} {tensor['shape']}" for tensor in model[kind])
        stage.say(f"efficientnet-lite2 {kind}: {tensors}")
    check(model["inputs"][0]["shape"] == [-1, 3, 260, 260], f"input of shape {model['inputs'][0]['shape']}")


STEPS = (Step("The Open Inference Protocol, for Triton clients", metadata),)
