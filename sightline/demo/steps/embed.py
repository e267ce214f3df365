"""Embeddings in OpenAI's shape: what means the same lies close together."""

from __future__ import annotations

from sightline.client import Client
from sightline.demo.stage import Stage, Step, check, ok

SENTENCES = ["A kitten sleeps on the sofa.", "The cat is napping on a couch.", "The rocket lifts off at dawn."]


def texts(stage: Stage) -> None:
    answer = ok(stage.http.post("/v1/embeddings", json={"model": "minilm-l6", "input": SENTENCES})).json()
    first, *others = (entry["embedding"] for entry in answer["data"])
    near, far = (sum(a * b for a, b in zip(first, other, strict=True)) for other in others)
    stage.say(f"{SENTENCES[0]!r} ({len(first)} numbers, {answer['usage']['total_tokens']} tokens in all)")
    stage.show_scores([(SENTENCES[1], max(near, 0)), (SENTENCES[2], max(far, 0))])
    check(near > 0.5 > far, f"cosines {near:.2f} and {far:.2f}: the same meaning must be closer")


def by_client(stage: Stage) -> None:
    with Client(stage.url) as client:
        answer = client.embed(SENTENCES)
        found = client.classify(stage.photo("motorcycle_left.png"), ["a motorcycle", "a sailing boat"])
    check(answer.vectors.shape[0] == len(SENTENCES), f"vectors of shape {answer.vectors.shape}")
    best = found[0].best
    stage.say(f"Client.embed: float32 {answer.vectors.shape}; Client.classify: {best}")
    check(best is not None and best.label == "a motorcycle", f"got {best}")


STEPS = (
    Step("Sentences as vectors, as the openai client asks for them", texts),
    Step("The same from Python", by_client),
)
