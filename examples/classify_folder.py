"""Sort a folder of photos by what is on them: ``python classify_folder.py FOLDER 'a cat' 'a dog' ...``."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from sightline import Client

folder, *labels = sys.argv[1:]
photos = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})

found: dict[str, list[str]] = defaultdict(list)
with Client() as client:
    for start in range(0, len(photos), 16):
        batch = photos[start : start + 16]
        for photo, result in zip(batch, client.classify(batch, labels), strict=True):
            if result.best is not None:
                found[result.best.label].append(f"{photo.name} ({result.best.score:.0%})")

for label in labels:
    print(f"{label}: {', '.join(found[label]) or 'nothing'}")
