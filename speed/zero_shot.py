"""``python -m speed.zero_shot COMMAND``: what ``photo-zero-shot`` is worth, and the numbers that it is made with.

``report`` prints every figure of the cards and of their pages in docs/models; ``choose`` the same comparison on the
classes that settings are chosen on; ``calibrate`` a card's ``scale``, ``none`` and ``alone``; ``shifts`` makes
``models/zero_shot/data/shifts.safetensors`` from folders of photos. Pictures come from folders that are not part of the
repository: ``--imagenet`` one JPEG a class in the order of the classes, ``--cifar`` one folder a class, ``--data`` the
sets by name. With ``--space``, which ``models.unicl.lite2.collect`` writes, ``unicl-lite2`` is compared too, trained
anew for every set of known classes, and ``calibrate`` is about it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from models.catalog.catalog import Catalog
from models.progress import silent
from models.unicl.lite2.space import Space
from models.zero_shot.build import SHIFTS, read_classifier, read_shifts
from models.zero_shot.nouns import Hierarchy, Nouns
from models.zero_shot.texts import embed
from speed.zero_shot_calibration import Kinds, fit_parameters, measure, trials
from speed.zero_shot_data import Pictures, Reader
from speed.zero_shot_methods import Baselines, Method, Served, Texts, remembered
from speed.zero_shot_tasks import CHOOSE, EVERY, REPORT, accuracy, hidden_classes, kind_tasks, kinds
from speed.zero_shot_unicl import Trained

IMAGE_MODEL, TEXT_MODEL = "efficientnet-lite2", "minilm-l6"
SIDES = (32, 64, 128, 256)
MOST_PHOTOS = 60
"""Of each folder of ``shifts``; folders count alike."""
SEEDS = {"choose": 0, "report": 100}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["report", "choose", "calibrate", "shifts"])
    parser.add_argument("--repository", type=Path, required=True, help="the model repository")
    parser.add_argument("--features", type=Path, required=True, help="where features are kept between runs")
    parser.add_argument("--imagenet", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--space", type=Path, help="the training set of unicl-lite2, to compare it too")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders for `shifts`")
    parser.add_argument("--output", type=Path, default=SHIFTS)
    arguments = parser.parse_args()
    reader = Reader(arguments.repository / IMAGE_MODEL / "1", arguments.features)
    if arguments.command == "shifts":
        groups = [_some(sorted(folder.rglob("*.jp*g"))) for folder in arguments.photos]
        shifts = np.mean([reader.shift(photos, SIDES) for photos in groups], axis=0)
        save_file({"sides": np.array(SIDES, np.float32), "shifts": shifts.astype(np.float16)}, arguments.output)
        print(f"{sum(map(len, groups))} photos")
        return
    bench = Bench(reader, arguments.repository, arguments.imagenet, arguments.cifar, arguments.data, arguments.space)
    bench.run(arguments.command)


def _some(photos: list[Path]) -> list[Path]:
    """At most :data:`MOST_PHOTOS`, evenly spread."""
    return photos[:: max(1, -(-len(photos) // MOST_PHOTOS))]


class Bench:
    """Everything that is compared, over one reader."""

    def __init__(
        self,
        reader: Reader,
        repository: Path,
        imagenet: Path,
        cifar: Path | None,
        data: Path | None,
        space: Path | None = None,
    ) -> None:
        self.reader, self.repository, self.cifar, self.data = reader, repository, cifar, data
        self.nouns = Nouns.read()
        self.hierarchy = Hierarchy(self.nouns)
        encoder = repository / TEXT_MODEL / "1"
        self.texts: Texts = remembered(lambda texts: embed(encoder, texts, silent))
        self.classifier = read_classifier(repository, IMAGE_MODEL, TEXT_MODEL, silent)
        paths = sorted(imagenet.glob("n*.JPEG"))
        self.imagenet: Pictures = reader.files("imagenet", paths, range(1000), tuple(self.classifier.names))
        self.sides, self.shifts = read_shifts()
        self.trained: Trained | None = None
        if space is not None:
            parts = (self.classifier, self.nouns, self.sides, self.shifts, self.texts)
            self.trained = Trained(Space.read(space), *parts)

    def served(self, **changes: float) -> Served:
        return Served(self.classifier, self.nouns, self.sides, self.shifts, self.texts, **changes)

    def run(self, command: str) -> None:
        if command == "calibrate":
            self.calibrate()
            return
        self.compare(command)
        if command == "report":
            self.seen()
            self.calibration()
        self.real(first=command == "choose")

    def compare(self, command: str) -> None:
        half, seed = (CHOOSE, SEEDS["choose"]) if command == "choose" else (REPORT, SEEDS["report"])
        tasks = kind_tasks(self.nouns, self.hierarchy, half, seed)
        print(
            "\n| method | hidden top-1 | top-5 | new kinds top-1 | top-5 | known kinds top-1 | top-5 |\n"
            + "|---" * 7
            + "|"
        )
        for name, method in self.methods().items():
            hidden = hidden_classes(method, self.imagenet, half, seed)
            new = kinds(method, self.imagenet, tasks, hide=True)
            old = kinds(method, self.imagenet, tasks, hide=False)
            print(f"| {name} | {hidden} | {new} | {old} |", flush=True)

    def methods(self) -> dict[str, Method]:
        baselines = Baselines(self.classifier, self.texts, self.imagenet.features.mean(axis=0))
        methods: dict[str, Method] = {
            "ConSE": baselines.conse,
            "weight prediction": baselines.weights,
            "kernel ridge on names": baselines.ridge,
            "weight prediction + 0.5 ConSE": baselines.combined,
            "served": self.served(),
            "served, subsumed classes do not vote": self.served(class_share=0.0),
            "served, definitions alone": self.served(text_weight=1e-6),
        }
        if self.trained is not None:
            methods["unicl-lite2"] = self.trained
            methods["unicl-lite2, texts alone"] = self.trained.texts_alone
        return methods

    def seen(self) -> None:
        """All class names as free text, which is how a known name behaves when it is typed."""
        served = self.served()
        predictor, texts = served.predictor(EVERY), self.texts(self.imagenet.labels)
        begin = time.process_time()
        rows = predictor.rows(self.imagenet.labels, texts)
        seconds = time.process_time() - begin
        scores = predictor.evidence(self.imagenet.features, self.imagenet.logits, rows, self.imagenet.sides).cosines
        print(f"\nall 1000 names as free text: {accuracy(scores, EVERY):.1f}")
        print(f"the classifier itself: {accuracy(self.imagenet.logits, EVERY):.1f}")
        print(f"rows of 1000 labels whose texts are embedded: {1000 * seconds:.0f} ms CPU")
        if self.trained is not None:
            scores = self.trained(EVERY, self.imagenet.labels, self.imagenet)
            print(f"unicl-lite2, all 1000 names as free text: {accuracy(scores, EVERY):.1f}")

    def real(self, *, first: bool) -> None:
        """Whole sets; of CIFAR-10, the pictures of each class up to 100 when choosing and 100 to 300 when reporting."""
        sets: dict[str, Pictures] = {}
        if self.cifar is not None:
            sets["cifar"] = self.reader.folders("cifar", self.cifar, *((100, 0) if first else (200, 100)))
        if self.data is not None:
            split = "train" if first else "test"
            for name, folder in (
                ("eurosat", "eurosat_rgb"), ("mnist", "mnist_png"), ("clothing", "clothing_small"),
                ("grocery", "grocery_store"),
            ):  # fmt: skip
                sets[name] = self.reader.folders(f"{name}-{split}" if first else name, self.data / folder / split)
        print(
            "\n| set | pictures | labels | "
            + " | ".join(self.methods())
            + " |\n"
            + "|---" * (3 + len(self.methods()))
            + "|"
        )
        for name, pictures in sets.items():
            figures = [
                accuracy(method(EVERY, pictures.labels, pictures), pictures.truth) for method in self.methods().values()
            ]
            shown = " | ".join(f"{figure:.1f}" for figure in figures)
            print(f"| {name} | {len(pictures.truth)} | {len(pictures.labels)} | {shown} |", flush=True)
        if self.data is not None and not first:
            self.coco(self.data / "coco_mini_cc")

    def coco(self, folder: Path) -> None:
        """Is the best of 80 object names in the photo? Is the best of all captions its own?"""
        captions, objects = [], []
        for split in ("train", "val"):
            captions.append(json.loads((folder / f"captions_{split}.json").read_text()))
            objects.append(json.loads((folder / f"instances_{split}.json").read_text()))
        images = {image["id"]: image["file_name"] for part in captions for image in part["images"]}
        ids = sorted(images)
        paths = [next(folder.rglob(images[one])) for one in ids]
        names = {c["id"]: c["name"] for part in objects for c in part["categories"]}
        pictures = self.reader.files("coco", paths, [0] * len(ids), ())
        present = {(a["image_id"], names[a["category_id"]]) for part in objects for a in part["annotations"]}
        texts = [(a["image_id"], a["caption"].strip()) for part in captions for a in part["annotations"]]
        print("\n| COCO | " + " | ".join(self.methods()) + " |\n" + "|---" * (1 + len(self.methods())) + "|")
        labels = tuple(dict.fromkeys(names.values()))
        with_objects = [i for i, one in enumerate(ids) if any(image == one for image, _ in present)]
        hits, first, fifth = [], [], []
        for method in self.methods().values():
            best = method(EVERY, labels, pictures.only(np.array(with_objects))).argmax(axis=1)
            hits.append(np.mean([(ids[i], labels[b]) in present for i, b in zip(with_objects, best, strict=True)]))
            order = np.argsort(-method(EVERY, [text for _, text in texts], pictures), axis=1)
            own = np.array([[texts[t][0] == ids[i] for t in row] for i, row in enumerate(order)])
            first.append(own[:, 0].mean())
            fifth.append(own[:, :5].any(axis=1).mean())
        for name, values in (
            (f"best of {len(labels)} names is in the photo (n={len(with_objects)})", hits),
            (f"own caption first of {len(texts)} (n={len(ids)})", first), ("own caption among five", fifth),
        ):  # fmt: skip
            print(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")

    def calibrate(self) -> None:
        served = self.trained or self.served()
        done = self._trials(served, "choose")
        parameters = fit_parameters(done)
        print(json.dumps(parameters))
        print({name: round(value, 1) for name, value in measure(done, **parameters).items()})  # type: ignore[arg-type]

    def calibration(self) -> None:
        """With the parameters that the catalog's card carries."""
        methods: dict[str, Served | Trained] = {"photo-zero-shot": self.served()}
        if self.trained is not None:
            methods["unicl-lite2"] = self.trained
        for model, method in methods.items():
            pipeline = Catalog.read().entry(model).card.pipeline
            assert pipeline is not None
            own = {name: pipeline.parameters[name] for name in ("scale", "none", "alone")}
            done = self._trials(method, "report")
            print(f"\n| {model}: labels | " + " | ".join(measure(done[:1], **own)) + " |\n" + "|---" * 6 + "|")
            for name, chosen in (
                ("all", done), ("unknown to the classifier", [t for t in done if t.novel]),
                ("known", [t for t in done if not t.novel]),
            ):  # fmt: skip
                values = measure(chosen, **own).values()
                print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")

    def _trials(self, served: Served | Trained, which: str) -> list:  # type: ignore[type-arg]
        half = CHOOSE if which == "choose" else REPORT
        tasks = kind_tasks(self.nouns, self.hierarchy, half, SEEDS[which])
        below = Kinds(self.nouns, self.hierarchy, served)
        return list(trials(served, self.imagenet, half, tasks, below, SEEDS[which]))


if __name__ == "__main__":
    main()
