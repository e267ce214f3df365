"""``python -m speed.regionclip``: what each part of a served RegionCLIP RN50 costs at 800 pixels.

Random weights, which do not change the speed, through the exported graphs in ONNX Runtime: seconds of the clock and of
the processors, the least of a few runs, with as many threads as are asked for. Where others use the processors too, the
second column divided by the threads is what a quiet machine would need. Exporting takes some minutes, and so does
measuring.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from models.export.onnx import export
from models.regionclip.detections import ProposalRule, proposals
from models.regionclip.export import ANCHORS, MAPS, REGIONS, Anchors, Maps, Regions
from models.regionclip.localization import ProposalConfig
from models.regionclip.network import RegionCLIP, RegionCLIPConfig
from models.regionclip.variants import VARIANTS

CLASSES = 80
AT_ONCE = 100
"""Regions a run, as they are served."""

Run = Callable[[dict[str, Any]], list[Any]]


def session(file: Path, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting is no work
    opened = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(opened.run(None, feeds))


def seconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Of the clock, and of all processors together."""
    taken = []
    for _ in range(rounds):
        begin, spent = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - begin, time.process_time() - spent))
    clock, processors = zip(*taken, strict=True)
    return min(clock), min(processors)


def exported(folder: Path) -> dict[str, Path]:
    """The three graphs of the RN50 with the FPN proposals, at random."""
    torch.manual_seed(0)
    config = VARIANTS["regionclip_rn50"]
    network = RegionCLIP(RegionCLIPConfig(config.image, None, ProposalConfig())).eval()
    picture = torch.randn(2, 3, 96, 128)
    region = (torch.rand(2, 1024, 6, 8), torch.tensor([[[0.0, 0, 64, 64]] * 3] * 2), torch.randn(2, 4, 1024))
    parts = {
        "maps": (Maps(network), (picture,), MAPS),
        "anchors": (Anchors(network), (picture,), ANCHORS),
        "regions": (Regions(network), region, REGIONS),
    }
    for name, (module, example, signature) in parts.items():
        export(module, example, signature, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in parts}


def rows(
    files: dict[str, Path], height: int, width: int, threads: int, rounds: int
) -> list[tuple[str, tuple[float, float]]]:
    run = {name: session(file, threads) for name, file in files.items()}
    generator = np.random.default_rng(0)
    image = {"image": generator.normal(size=(1, 3, height, width)).astype(np.float32)}
    (features,) = run["maps"](image)
    boxes, objectness, level = (part[0] for part in run["anchors"](image))
    found = [
        (f"map of a picture of {width} x {height}", seconds(lambda: run["maps"](image), rounds)),
        ("its anchors", seconds(lambda: run["anchors"](image), rounds)),
        (
            "1,000 proposals of the anchors, in NumPy",
            seconds(lambda: proposals(boxes, objectness, level, ProposalRule()), rounds),
        ),
    ]
    corners = np.sort(generator.random((1000, 2, 2)), axis=1) * [width, height]
    edges = corners.reshape(1, 1000, 4).astype(np.float32)
    classes = generator.normal(size=(1, CLASSES, 1024)).astype(np.float32)
    for number in (100, 300, 1000):

        def regions(number: int = number) -> None:
            for start in range(0, number, AT_ONCE):
                part = edges[:, start : start + AT_ONCE]
                run["regions"]({"features": features, "boxes": part, "classes": classes})

        found.append((f"{number:,} regions against {CLASSES} classes", seconds(regions, 1 if number > 300 else rounds)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m speed.regionclip", description=__doc__)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where exported graphs are kept, and found again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: folder / f"{name}.onnx" for name in ("maps", "anchors", "regions")}
        files = kept if all(file.is_file() for file in kept.values()) else exported(folder)
        print("| part | seconds | of all processors |\n| --- | --- | --- |")
        for name, (clock, processors) in rows(files, options.height, options.width, options.threads, options.rounds):
            print(f"| {name} | {clock:.2f} | {processors:.2f} |", flush=True)


if __name__ == "__main__":
    main()
