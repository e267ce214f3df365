"""Makes the training set of ``unicl-lite2``: ``python -m models.unicl.lite2.collect``.

Needs the pulled ``efficientnet-lite2`` and ``minilm-l6``, a folder of ``sightline datasets build pictographs`` and one
with the photo sets of :data:`models.unicl.lite2.pictures.PHOTOS`. Four minutes on one core, most of them for features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog.labels import label_set
from models.intake.sources.fetch import fetch
from models.progress import silent
from models.unicl.lite2.pictures import PHOTOS, STYLES, Features, Shown, crops, pictographs
from models.unicl.lite2.space import Array, Space, unit
from models.zero_shot import wordnet
from models.zero_shot.collect import SOURCE, describe
from models.zero_shot.nouns import SYNSETS, Hierarchy, Nouns
from models.zero_shot.texts import embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="where efficientnet-lite2 and minilm-l6 are")
    parser.add_argument("--cache", type=Path, required=True, help="where downloads are kept")
    parser.add_argument("--pictographs", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="folder of the photo sets")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    features = Features(options.repository / "efficientnet-lite2" / "1")
    sources = [list(pictographs(options.pictographs, style)) for style in STYLES]
    sources.append([one for name in PHOTOS for one in crops(options.photos / name)])
    concepts, rows, owners = describe_pictures(sources, features)
    nouns = Nouns.read()
    synsets, names, descriptions = read_labels(fetch(SOURCE, options.cache, silent), nouns)
    count = len(synsets)
    texts = unit(embed(options.repository / "minilm-l6" / "1", [*names, *descriptions, *concepts], silent))
    space = Space(
        synsets, texts[:count], texts[count : 2 * count], texts[2 * count :],
        usual_senses(concepts, nouns), rows, owners,
    )  # fmt: skip
    space.write(options.output)
    print(f"{count} synsets, {len(concepts)} concepts with {len(rows)} pictures")


def describe_pictures(
    sources: list[list[Shown]], features: Callable[[list[Image.Image]], Array]
) -> tuple[list[str], Array, NDArray[np.int32]]:
    """Names of the concepts, unit features of every picture less the mean of its source, and whose each is."""
    concepts = sorted({name for source in sources for name, _ in source})
    place = {name: index for index, name in enumerate(concepts)}
    rows = []
    for source in sources:
        own = features([picture for _, picture in source])
        rows.append(unit(own - own.mean(axis=0)))
        print(f"{len(own)} pictures", flush=True)
    owners = np.array([place[name] for source in sources for name, _ in source], np.int32)
    return concepts, np.concatenate(rows), owners


def read_labels(folder: Path, nouns: Nouns) -> tuple[NDArray[np.int32], list[str], list[str]]:
    """Every synset that is or subsumes a class of ImageNet, with its name and its description."""
    known = wordnet.read_synsets(folder / "data.noun")
    by_key = wordnet.keys_to_offsets(known)
    classes = [by_key[key] for key in SYNSETS.read_text("utf-8").split()]
    physical = wordnet.below(known, by_key[wordnet.ROOT])
    offsets = sorted({offset for offset in physical if not known[offset].instance} | set(classes))  # as in Nouns
    own_names = dict(zip(nouns.imagenet.tolist(), label_set("imagenet-1k"), strict=True))
    synsets = sorted(Hierarchy(nouns).classes_below(nouns.imagenet))
    names = [own_names.get(synset, known[offsets[synset]].lemmas[0]) for synset in synsets]
    return np.array(synsets, np.int32), names, [describe(known, offsets[synset]) for synset in synsets]


def usual_senses(names: list[str], nouns: Nouns) -> NDArray[np.int32]:
    """The first sense of each name that can be photographed, or -1."""
    place = {lemma: index for index, lemma in enumerate(nouns.lemmas)}
    found = []
    for name in names:
        at = place.get(name.lower())
        found.append(-1 if at is None else int(nouns.sense_synset[nouns.sense_start[at]]))
    return np.array(found, np.int32)


if __name__ == "__main__":
    main()
