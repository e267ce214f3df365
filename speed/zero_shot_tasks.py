"""The tasks of ``speed.zero_shot``: classes that the method must not have seen, and kinds of things.

The classes are cut in two halves. Everything is chosen on one and reported on the other; what is hidden in a split is
never fitted in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.zero_shot.nouns import Hierarchy, Nouns
from speed.zero_shot_data import Pictures
from speed.zero_shot_methods import Indices, Method

CLASSES = 1000
HIDDEN = 100
SPLITS = 10
KINDS = 15
_order = np.random.RandomState(12345).permutation(CLASSES)
CHOOSE, REPORT = np.sort(_order[:500]), np.sort(_order[500:])
EVERY = np.arange(CLASSES)


@dataclass(frozen=True)
class Result:
    """Mean over splits and its standard error, in percent; ``pictures`` is how many were scored in all."""

    top1: float
    error1: float
    top5: float
    error5: float
    pictures: int

    def __str__(self) -> str:
        return f"{self.top1:.1f} ± {self.error1:.1f} | {self.top5:.1f} ± {self.error5:.1f}"


def splits(half: Indices, seed: int, count: int = SPLITS) -> Iterator[tuple[Indices, Indices]]:
    """Hidden and known classes."""
    for index in range(count):
        hidden = np.sort(np.random.RandomState(seed + index).permutation(half)[:HIDDEN])
        yield hidden, np.setdiff1d(EVERY, hidden)


def hidden_classes(method: Method, imagenet: Pictures, half: Indices, seed: int) -> Result:
    """One picture of each hidden class, among the names of the hidden classes."""
    scores = []
    for hidden, known in splits(half, seed):
        labels = [imagenet.labels[i] for i in hidden]
        ranks = _ranks(method(known, labels, imagenet.only(hidden)), np.arange(len(hidden)))
        scores.append(((ranks < 1).mean(), (ranks < 5).mean()))
    return _result(scores, SPLITS * HIDDEN)


@dataclass(frozen=True)
class KindTask:
    """Labels that are kinds of things (``dog``), classes below them, and which label each is below."""

    labels: list[str]
    classes: Indices
    truth: Indices


def kind_tasks(nouns: Nouns, hierarchy: Hierarchy, half: Indices, seed: int, count: int = SPLITS) -> list[KindTask]:
    """Random sets of disjoint synsets that subsume two to 65 classes of ``half``; up to ten classes of each."""
    below = hierarchy.classes_below(nouns.imagenet[half])
    own = set(nouns.imagenet.tolist())
    usual = _usual_lemmas(nouns)
    able = [s for s, classes in sorted(below.items()) if 2 <= len(classes) <= 65 and s not in own and s in usual]
    tasks = []
    for index in range(count):
        random = np.random.RandomState(seed + index)
        labels, classes, truth = [], [], []
        taken: set[int] = set()
        for synset in random.permutation(able):
            mine = set(below[synset])
            if taken & mine or usual[synset] in labels:
                continue
            taken |= mine
            chosen = random.permutation(sorted(mine))[: max(1, min(10, len(mine) // 2))]
            classes += [int(half[c]) for c in chosen]
            truth += [len(labels)] * len(chosen)
            labels.append(usual[synset])
            if len(labels) == KINDS:
                break
        tasks.append(KindTask(labels, np.array(classes), np.array(truth)))
    return tasks


def kinds(method: Method, imagenet: Pictures, tasks: Sequence[KindTask], *, hide: bool) -> Result:
    """Mean accuracy of labels. ``hide``: the pictured classes are unknown, so that ``dog`` must hold for new dogs."""
    scores = []
    for task in tasks:
        known = np.setdiff1d(EVERY, task.classes) if hide else EVERY
        ranks = _ranks(method(known, task.labels, imagenet.only(task.classes)), task.truth)
        each = [ranks[task.truth == label] for label in range(len(task.labels))]
        scores.append((np.mean([(r < 1).mean() for r in each]), np.mean([(r < 5).mean() for r in each])))
    return _result(scores, sum(len(task.classes) for task in tasks))


def accuracy(scores: Pictures | np.ndarray, truth: Indices) -> float:
    """Percent."""
    return 100 * float((np.asarray(scores).argmax(axis=1) == truth).mean())


def _ranks(scores: np.ndarray, truth: Indices) -> Indices:
    """How many labels score higher than the true one; a tie counts against the method."""
    own = scores[np.arange(len(scores)), truth][:, None]
    return np.asarray((scores >= own).sum(axis=1) - 1)


def _result(scores: Sequence[tuple[float, float]], pictures: int) -> Result:
    values = 100 * np.array(scores)
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return Result(values[:, 0].mean(), errors[0], values[:, 1].mean(), errors[1], pictures)


def _usual_lemmas(nouns: Nouns) -> dict[int, str]:
    """For each synset its shortest lemma of which it is the first sense."""
    names: dict[int, str] = {}
    for index, lemma in enumerate(nouns.lemmas):
        begin, end = int(nouns.sense_start[index]), int(nouns.sense_start[index + 1])
        for sense in range(begin, end):
            if nouns.sense_rank[sense] == 0:
                synset = int(nouns.sense_synset[sense])
                if synset not in names or len(lemma) < len(names[synset]):
                    names[synset] = lemma
    return names
