"""A detection set of one cat on plain grounds, larger and smaller, as COCO writes it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"


def write(archive: Path, name: str = "my cat", train: int = 3, test: int = 2) -> None:
    """An upload with ``train`` and ``test`` photos of 416 x 320, one box each of the class ``name``."""
    cat = Image.open(CAT).convert("RGB").crop((60, 0, 400, 300))
    random = np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w") as bundle:
        for split, count in (("train", train), ("test", test)):
            images, notes = [], []
            for number in range(count):
                photo = Image.new("RGB", (416, 320), tuple(random.integers(60, 200, 3).tolist()))
                width = int(random.integers(180, 260))
                small = cat.resize((width, width * 300 // 340))
                x, y = (int(random.integers(0, room)) for room in (416 - small.width, 320 - small.height))
                photo.paste(small, (x, y))
                sink = io.BytesIO()
                photo.save(sink, "PNG")
                bundle.writestr(f"{split}/{number}.png", sink.getvalue())
                images.append({"id": number, "file_name": f"{number}.png", "width": 416, "height": 320})
                box = [x, y, small.width, small.height]
                notes.append({"id": number, "image_id": number, "category_id": 7, "bbox": box})
            content = {"images": images, "annotations": notes, "categories": [{"id": 7, "name": name}]}
            bundle.writestr(f"{split}/_annotations.coco.json", json.dumps(content))
