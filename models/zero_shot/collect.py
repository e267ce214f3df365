"""Makes ``data/nouns.safetensors`` from WordNet and the text encoder: ``python -m models.zero_shot.collect``.

Run once and kept with the code, because it embeds 39,587 texts, which takes ten minutes or more. Needs the pulled
``minilm-l6`` and the packages of the ``cpu`` extra.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.intake.sources.fetch import fetch
from models.progress import Progress
from models.zero_shot import wordnet
from models.zero_shot.nouns import NOUNS, SYNSETS
from models.zero_shot.texts import BATCH, embed

SOURCE = "wordnet-nouns"
AXES = 64
"""Principal axes kept of 384: fewer cost accuracy on hidden classes, more gain none and double the file."""
HYPERNYMS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="where minilm-l6 is")
    parser.add_argument("--cache", type=Path, required=True, help="where downloads are kept")
    parser.add_argument("--output", type=Path, default=NOUNS)
    arguments = parser.parse_args()

    def show(stage: str, done: int, total: int) -> None:
        if done % (100 * BATCH) == 0 or done == total:
            print(f"{stage}: {done:,} of {total:,}", flush=True)

    folder = fetch(SOURCE, arguments.cache, show)
    save_file(collect(folder, arguments.repository / "minilm-l6" / "1", show), arguments.output)


def collect(folder: Path, encoder: Path, progress: Progress) -> dict[str, NDArray[np.generic]]:
    """Every array of :class:`models.zero_shot.nouns.Nouns`."""
    synsets = wordnet.read_synsets(folder / "data.noun")
    by_key = wordnet.keys_to_offsets(synsets)
    classes = [by_key[key] for key in SYNSETS.read_text("utf-8").split()]
    physical = wordnet.below(synsets, by_key[wordnet.ROOT])
    # Named things (Paris, Einstein) are instances; a few classes are filed under communication and substance.
    kept = sorted({offset for offset in physical if not synsets[offset].instance} | set(classes))
    place = {offset: index for index, offset in enumerate(kept)}
    texts = [describe(synsets, offset) for offset in kept]
    vectors, scale = quantise(embed(encoder, texts, progress))
    parents = [[place[p] for p in synsets[offset].parents if p in place] for offset in kept]
    senses = {
        lemma.lower(): [(place[offset], rank) for rank, offset in enumerate(offsets) if offset in place]
        for lemma, offsets in wordnet.read_senses(folder / "index.noun").items()
    }
    lemmas = sorted(lemma for lemma, own in senses.items() if own)
    own = [senses[lemma] for lemma in lemmas]

    return {
        "lemmas": np.frombuffer("\n".join(lemmas).encode(), np.uint8),
        "sense_start": starts([len(each) for each in own]),
        "sense_synset": np.array([synset for each in own for synset, _ in each], np.uint16),
        "sense_rank": np.array([min(rank, 255) for each in own for _, rank in each], np.uint8),
        "parent_start": starts([len(each) for each in parents]),
        "parent": np.array([parent for each in parents for parent in each], np.uint16),
        "vectors": vectors,
        "scale": scale,
        "imagenet": np.array([place[offset] for offset in classes], np.uint16),
    }


def describe(synsets: dict[str, wordnet.Synset], offset: str) -> str:
    """``jaguar, big cat, feline, carnivore, placental: a large spotted feline of tropical America ...``"""
    names = [synsets[offset].lemmas[0], *wordnet.chain(synsets, offset, HYPERNYMS)]
    return f"{', '.join(names)}: {synsets[offset].gloss}"


def starts(lengths: list[int]) -> NDArray[np.uint32]:
    """Return where each of several lists begins when they are laid end to end, and the end."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint32)


def quantise(rows: NDArray[np.float32], axes: int = AXES) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Centred rows on their first principal axes: int8 values and what one step of each axis is."""
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    projected = centred @ vectors[:, ::-1][:, :axes]
    scale = np.abs(projected).max(axis=0) / 127
    return np.round(projected / scale).astype(np.int8), scale.astype(np.float32)


if __name__ == "__main__":
    main()
