"""WordNet's noun files to synsets. The format is wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError

ROOT = "physical_entity%1:03:00"
"""What can be photographed is below this sense; ideas, events and relations are not."""


@dataclass(frozen=True)
class Synset:
    """``lemmas`` with spaces, the first is the usual one; ``keys`` are sense keys without their final ``::``."""

    lemmas: tuple[str, ...]
    keys: tuple[str, ...]
    parents: tuple[str, ...]
    instance: bool
    gloss: str


def read_synsets(data: Path) -> dict[str, Synset]:
    """Every noun synset of ``data.noun`` by its offset."""
    return dict(map(_synset, _lines(data)))


def read_senses(index: Path) -> dict[str, list[str]]:
    """The synset offsets of every lemma of ``index.noun``, most usual sense first."""
    senses = {}
    for line in _lines(index):
        fields = line.split()
        senses[fields[0].replace("_", " ")] = fields[-int(fields[2]) :]
    return senses


def keys_to_offsets(synsets: dict[str, Synset]) -> dict[str, str]:
    return {key: offset for offset, synset in synsets.items() for key in synset.keys}


def chain(synsets: dict[str, Synset], offset: str, length: int) -> list[str]:
    """The usual lemmas of the first hypernyms, nearest first."""
    names: list[str] = []
    while synsets[offset].parents and len(names) < length:
        offset = synsets[offset].parents[0]
        names.append(synsets[offset].lemmas[0])
    return names


def below(synsets: dict[str, Synset], root: str) -> set[str]:
    """Offsets of ``root`` and of everything under it."""
    children: dict[str, list[str]] = {}
    for offset, synset in synsets.items():
        for parent in synset.parents:
            children.setdefault(parent, []).append(offset)
    found = {root}
    todo = [root]
    while todo:
        fresh = [child for child in children.get(todo.pop(), ()) if child not in found]
        found.update(fresh)
        todo.extend(fresh)
    return found


def _lines(path: Path) -> Iterator[str]:
    """All but the licence, whose lines begin with a space."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if not line.startswith(" "))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "fetch the source wordnet-nouns again") from error


def _synset(line: str) -> tuple[str, Synset]:
    record, _, gloss = line.partition(" | ")
    fields = record.split()
    offset, lexicographer, words = fields[0], int(fields[1]), int(fields[3], 16)
    spelled = fields[4 : 4 + 2 * words : 2]
    numbers = fields[5 : 5 + 2 * words : 2]
    pointers = fields[5 + 2 * words :]
    parents, instance = [], False
    for symbol, target, part in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=False):
        if symbol in ("@", "@i") and part == "n":
            parents.append(target)
            instance = instance or symbol == "@i"

    keys = [f"{word.lower()}%1:{lexicographer:02d}:{int(n, 16):02d}" for word, n in zip(spelled, numbers, strict=True)]
    lemmas = tuple(word.replace("_", " ") for word in spelled)
    definition = gloss.strip().split('; "')[0]
    return offset, Synset(lemmas, tuple(keys), tuple(parents), instance, definition)
