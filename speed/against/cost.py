"""CPU time of a request in two checkouts: the servers on one core, the client on another, in turns."""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from speed import meter, tiny
from speed.against.answers import link_models
from speed.against.checkout import Checkout, Serving
from speed.against.data import unpacked
from speed.loadgen import Request, measure

SERVERS, CLIENT = 0, 1
"""Cores."""


def measured(
    old: Checkout, new: Checkout, models: Path, folder: Path, rounds: int, seconds: float, only: str
) -> list[str]:
    """Milliseconds of user and system time a request, as lines of a markdown table; medians over ``rounds``.

    Every round measures each request on both sides, who comes first in turns, so that a busy machine meets both.
    """
    keys = prepare(old, models, folder)
    pinned = ("taskset", "-c", str(SERVERS)) if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else ()
    if pinned:
        os.sched_setaffinity(0, {CLIENT})
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        sides = {}
        for name, checkout in (("old", old), ("new", new)):
            data, log = folder / name / "data", folder / f"{name}.log"
            sides[name] = stack.enter_context(checkout.serving(data, log, pinned, SIGHTLINE_JOBS="false"))
        asked = {name: one for name, one in requests(keys["user"]).items() if only in name}
        for number in range(rounds + 1):  # the first warms up
            for name, request in asked.items():
                for side in ("old", "new") if number % 2 else ("new", "old"):
                    spent = one_point(sides[side], request, seconds if number else 1.0)
                    if number:
                        found[name][side].append(spent)
            print(f"round {number} of {rounds}", file=sys.stderr)
    return table(found, bool(pinned))


def prepare(old: Checkout, models: Path, folder: Path) -> dict[str, str]:
    """A data directory for each side, with the tiny network imported by the old one; the secrets of its keys."""
    data, keys = unpacked(folder / "old")
    link_models(models, data / "models")
    network, labels = folder / "tiny.onnx", folder / "labels.txt"
    tiny.write_network(network)
    labels.write_text("".join(f"{index}\n" for index in range(tiny.CLASSES)))
    words = ["--name", "tiny", "--task", "classify", "--labels", str(labels), "--preprocess", f"clip-{tiny.SIZE}"]
    old.run("-m", "sightline", "models", "import", str(network), *words, "--data-dir", str(data))
    shutil.copytree(data, folder / "new" / "data", copy_function=os.link)
    for name in ("sightline.db", "control.json"):  # which each side writes
        kept = folder / "new" / "data" / name
        kept.unlink()
        shutil.copy2(data / name, kept)
    return keys


def requests(secret: str) -> dict[str, Request]:
    """What is measured, by name; addresses without a host."""
    jpeg = tiny.picture()
    image = base64.b64encode(jpeg).decode()
    key = (("Authorization", f"Bearer {secret}"),)

    def post(path: str, body: dict[str, object], expect: bytes) -> Request:
        return Request(path, json.dumps(body).encode(), "application/json", expect, key)

    labels = ["a cat", "a dog", "a red apple"]
    numbers = [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} for name in "ab"]
    classified = b'"object":"classification"'
    return {
        "tiny network, 224 px JPEG in JSON": post("/v1/classify", {"model": "tiny", "image": image}, classified),
        "tiny network, 224 px JPEG as body": Request("/v1/classify?model=tiny", jpeg, "image/jpeg", classified, key),
        "tiny pair, 3 labels": post(
            "/v1/classify", {"model": "tiny-open", "image": image, "labels": labels}, classified
        ),
        "photo-zero-shot, 3 labels": post(
            "/v1/classify", {"model": "photo-zero-shot", "image": image, "labels": labels}, classified
        ),
        "minilm-l6, one text": post(
            "/v1/embeddings", {"model": "minilm-l6", "input": "a red apple"}, b'"object":"list"'
        ),
        "tiny tower, one text": post("/v1/embeddings", {"model": "tiny-tower", "input": "a cat"}, b'"object":"list"'),
        "/v2, tiny tensors": post("/v2/models/tiny-adder/infer", {"inputs": numbers}, b'"sum"'),
    }


def one_point(serving: Serving, request: Request, seconds: float) -> float:
    """CPU milliseconds a request of the gateway process, one request at a time."""
    gateway = next(pid for pid in meter.tree(serving.pid) if "-m gateway" in _command(pid))
    point = measure(replace(request, url=serving.url + request.url), gateway, users=1, seconds=seconds, warm_up=0)
    assert point.good and not point.failed, f"{request.url}: {dict(point.latencies)}, {point.wrong}, {point.errors}"
    return point.cpu_ms


def table(found: dict[str, dict[str, list[float]]], pinned: bool) -> list[str]:
    lines = ["| request | old, ms | new, ms | new over old, median of rounds (all rounds) |", "|---|---|---|---|"]
    for name, sides in found.items():
        ratios = sorted(new / old for old, new in zip(sides["old"], sides["new"], strict=True))
        medians = [statistics.median(sides[side]) for side in ("old", "new")]
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"| {name} | {medians[0]:.3f} | {medians[1]:.3f} | {spread} |")
    where = f"Servers on core {SERVERS}, client on core {CLIENT}." if pinned else "Nothing was pinned."
    return [*lines, "", f"User and system time of the gateway process, one request at a time. {where}"]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
