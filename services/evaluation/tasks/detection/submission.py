"""Detections of a unit as arrays, and ELEVATER's detection submission made of them: one list of COCO results a set.

Reference: the EvalAI challenge of ODinW (1839): ``{"dataset": [{image_id, category_id, bbox, score}]}``; few-shot runs
nest their seeds between. Images are named by their files and numbered as the annotation file lists them, categories
from 1 in the order of its ids.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.evaluation.bench import Predictions
from services.evaluation.named import Names
from services.evaluation.reports.results import Record

ENTRY = "all_predictions.json"
Row = tuple[int, int, float, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Detections:
    """Of all test images: ``images (M,)`` and ``classes (M,)`` from 0, ``scores (M,)``, ``boxes (M, 4)`` edges."""

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Detections:
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float32),
            np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
        )

    def results(self, drawn: Iterable[int]) -> list[dict[str, Any]]:
        """COCO results for the images at ``drawn``, which are numbered from 1 in that order and may come again."""
        begin = np.searchsorted(self.images, np.arange(self.images.max(initial=0) + 2))
        found = []
        for number, image in enumerate(drawn, 1):
            if image + 1 >= len(begin):
                continue
            for row in range(int(begin[image]), int(begin[image + 1])):
                found.append(self._result(row, number))
        return found

    def _result(self, row: int, number: int) -> dict[str, Any]:
        left, top, right, bottom = (float(edge) for edge in self.boxes[row])
        return {
            "image_id": number,
            "category_id": int(self.classes[row]) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "score": float(self.scores[row]),
        }

    def arrays(self, files: Sequence[str]) -> Predictions:
        """For the benchmark to keep; ``files`` are the paths of the test images, in order."""
        text = "\n".join(files).encode()
        return {
            "images": self.images,
            "classes": self.classes,
            "scores": self.scores,
            "boxes": self.boxes,
            "files": np.frombuffer(text or b"\n", np.uint8),
        }

    @classmethod
    def read(cls, kept: Predictions) -> tuple[Detections, list[str]]:
        files = kept["files"].tobytes().decode().split("\n")
        return cls(kept["images"], kept["classes"], kept["scores"], kept["boxes"]), files


def pack(models_dir: Path, names: Names, runs: Sequence[tuple[Record, Predictions]]) -> bytes:
    """Make the zip of one model, protocol and number of shots."""
    whole: dict[str, Any] = {}
    for record, kept in runs:
        found, files = Detections.read(kept)
        results = found.results(range(len(files)))
        for one in results:
            one["file_name"] = files[one["image_id"] - 1]
        if record.shots:
            whole.setdefault(record.dataset, {})[str(record.seed)] = results
        else:
            whole[record.dataset] = results

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(zipfile.ZipInfo(ENTRY, (1980, 1, 1, 0, 0, 0)), orjson.dumps(whole))
    return out.getvalue()
