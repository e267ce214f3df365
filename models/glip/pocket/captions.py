"""What is said about a scene: lists of names, or captions with counts, colours and relations; with positive maps.

A text is a sequence of tokens, each a row of the text tower: a noun with what belongs to it is one token (``police
car``), a colour or a count before it is a token of its own, and so is what stands between two phrases (``left of``).
The positive map says which tokens speak of which thing, as in GLIP (arXiv 2112.03857, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.glip.pocket.drawings import Drawings
from models.glip.pocket.rows import COLOURS, COUNTS, JOINS, RELATIONS
from models.glip.pocket.scenes import LARGEST, SIDE, SMALLEST, Painter, Scene, Thing, drawn_side, scattered

TOKENS = 24
"""Most tokens of one text."""
SHARES = {"Flags": 0.1, "People & Body": 0.3}
"""How often concepts of a category are drawn and named, beside others."""
COUNTED = (0.04, 0.14, 0.24, 0.24, 0.19, 0.15)
"""How many things a scene has: none to five."""
GAP = 10.0
"""Pixels by which a relation holds, or fails, at least."""


@dataclass(slots=True)
class Phrase:
    """Tokens ``first`` to ``last`` (exclusive) speak of the ``things``, which may be none."""

    first: int
    last: int
    things: list[int]


@dataclass(slots=True)
class Sample:
    """A scene with a text: ``rows (L, 256)``, their words and the phrases."""

    scene: Scene
    rows: list[NDArray[np.float32]]
    words: list[str]
    phrases: list[Phrase]

    def positive_map(self) -> NDArray[np.bool_]:
        """``(things, L)``: which tokens speak of which thing."""
        said = np.zeros((len(self.scene.things), len(self.rows)), np.bool_)
        for phrase in self.phrases:
            said[phrase.things, phrase.first : phrase.last] = True
        return said


def holds(relation: str, one: Thing, other: Thing, gap: float = GAP) -> bool:
    """Whether ``one`` is ``relation`` of ``other``, by the centres of their boxes and at least ``gap`` pixels."""
    across, down = one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]
    return {"left of": -across, "right of": across, "above": -down, "below": down}[relation] >= gap


class Composer:
    """Draws samples: which concepts may be shown in which styles, and which names stand beside the true ones."""

    def __init__(
        self,
        drawings: Drawings,
        concepts: NDArray[np.intp],
        styles: Sequence[str],
        *,
        training: bool,
        labels: int = 20,
        tinted: float = 0.25,
    ) -> None:
        self._drawings, self._concepts, self._labels = drawings, concepts, labels
        self._tinted = tinted
        self._painter = Painter(drawings, training=training)
        self._training = training
        self._rows_of = {int(concept): drawings.drawn(styles, int(concept)) for concept in concepts}
        share = np.array([SHARES.get(drawings.concepts[concept]["category"], 1.0) for concept in concepts])
        self._shares = share / share.sum()

    # Scenes.

    def scene(self, rng: np.random.Generator) -> Scene:
        """None to five things, sometimes two of a kind, some of them tinted."""
        count = int(rng.choice(len(COUNTED), p=COUNTED))
        chosen = self._some(rng, count)
        if count > 1 and rng.random() < 0.25:
            chosen[1] = chosen[0]
        things = [self._thing(concept, rng, count) for concept in chosen]
        return self._painter.paint(scattered(things, rng), rng)

    def related(self, rng: np.random.Generator) -> tuple[Scene, str] | None:
        """Two of a kind on either side of another, and others about; None where there was no room."""
        relation = str(rng.choice(list(RELATIONS)))
        subject, object_ = self._some(rng, 2)
        anchor = self._thing(object_, rng, 4, tinted=0.1)
        anchor.centre = tuple(rng.uniform(0.36 * SIDE, 0.64 * SIDE, 2))
        right, wrong = self._thing(subject, rng, 4, tinted=0), self._thing(subject, rng, 4, tinted=0)
        if rng.random() < 0.7:
            wrong.drawing = right.drawing
        axis = 0 if relation in ("left of", "right of") else 1
        sign = -1 if relation in ("left of", "above") else 1
        for thing, side in ((right, sign), (wrong, -sign)):
            if not _beside(thing, anchor, axis, side, rng):
                return None

        others = [self._thing(concept, rng, 5) for concept in self._some(rng, 2)]
        others = [thing for thing in others[: rng.integers(0, 3)] if thing.concept not in (subject, object_)]
        things = scattered([anchor, right, wrong, *others], rng, fixed=3)
        scene = self._painter.paint(things, rng)
        if len(scene.things) < 3 or [t.concept for t in scene.things[:3]] != [object_, subject, subject]:
            return None
        told = holds(relation, scene.things[1], scene.things[0]) and not holds(
            relation, scene.things[2], scene.things[0], 1 - GAP
        )
        return (scene, relation) if told else None

    def _thing(self, concept: int, rng: np.random.Generator, count: int, tinted: float | None = None) -> Thing:
        colour = None
        if rng.random() < (self._tinted if tinted is None else tinted) and not self._drawings.coloured[concept]:
            colour = str(rng.choice(list(COLOURS)))
        return Thing(concept, int(rng.choice(self._rows_of[concept])), drawn_side(rng, count), colour)

    def _some(self, rng: np.random.Generator, count: int) -> list[int]:
        count = min(count, len(self._concepts))
        return [int(concept) for concept in rng.choice(self._concepts, count, replace=False, p=self._shares)]

    # Texts.

    def sample(self, rng: np.random.Generator) -> Sample:
        """A scene with a list of names half of the time, else with a caption of some kind."""
        kind = rng.random()
        if kind < 0.5:
            return self.named(self.scene(rng), rng)
        if kind < 0.8:
            while (found := self.related(rng)) is None:
                pass
            return self.relation(*found, rng)
        if kind < 0.9:
            return self.listed(self.two_colours(rng), rng)
        return self.listed(self.scene(rng), rng)

    def two_colours(self, rng: np.random.Generator) -> Scene:
        """Two things of a kind in two colours, and up to two others."""
        others = self._some(rng, int(rng.integers(1, 4)))
        things = [self._thing(concept, rng, 4) for concept in [others[0], *others]]
        if not self._drawings.coloured[others[0]]:
            for thing, colour in zip(things[:2], rng.choice(list(COLOURS), 2, replace=False), strict=True):
                thing.colour = str(colour)
            things[1].drawing = things[0].drawing
        return self._painter.paint(scattered(things, rng), rng)

    def colours(self, scene: Scene, rng: np.random.Generator) -> Sample:
        """``the red car and the blue car``, of the first two things of a scene."""
        sample = Sample(scene, [], [], [])
        first, second = scene.things[:2]
        self._say(sample, first.concept, first.colour, rng)
        self._word(sample, "and")
        self._say(sample, second.concept, second.colour, rng)
        return sample

    def named(self, scene: Scene, rng: np.random.Generator) -> Sample:
        """A list of names: those of the scene, some with their colours, among ``labels`` in all."""
        sample = Sample(scene, [], [], [])
        present = list(dict.fromkeys(thing.concept for thing in scene.things))
        asked: list[tuple[int, str | None]] = []
        for concept in present:
            colours = {thing.colour for thing in scene.things if thing.concept == concept}
            colour = next(iter(colours))
            asked.append((concept, colour if self._training and colour and rng.random() < 0.5 else None))
        absent = self._some(rng, self._labels)
        asked += [(concept, None) for concept in absent if concept not in present]
        asked = asked[: self._labels]
        for place in rng.permutation(len(asked)):
            concept, colour = asked[place]
            self._say(sample, concept, colour, rng)
            if len(sample.rows) >= TOKENS - 1:
                break
        return sample

    def listed(self, scene: Scene, rng: np.random.Generator) -> Sample:
        """``two owls, a red car and a banana``: every kind of thing, and now and then one that is not there."""
        sample = Sample(scene, [], [], [])
        kinds = list(dict.fromkeys((thing.concept, thing.colour) for thing in scene.things))
        if not kinds or rng.random() < 0.4:
            kinds.append((self._some(rng, 1)[0], None))
        for place in rng.permutation(len(kinds)):
            if sample.rows:
                self._word(sample, str(rng.choice(JOINS)))
            concept, colour = kinds[place]
            alone = sum(other == concept for other, _ in kinds) == 1
            self._say(sample, concept, colour if not alone or rng.random() < 0.7 else None, rng, counted=True)
        return sample

    def relation(self, scene: Scene, relation: str, rng: np.random.Generator) -> Sample:
        """``the owl left of the car``, sometimes with something else behind it."""
        sample = Sample(scene, [], [], [])
        anchor, subject = scene.things[:2]
        sample.rows.append(self._row(subject.concept, rng))
        sample.words.append(self._drawings.names[subject.concept])
        sample.phrases.append(Phrase(0, 1, [1]))
        self._word(sample, str(rng.choice(RELATIONS[relation])) if self._training else relation)
        self._say(sample, anchor.concept, anchor.colour if rng.random() < 0.5 else None, rng)
        rest = list(dict.fromkeys((thing.concept, thing.colour) for thing in scene.things[3:]))
        for concept, colour in rest:
            if self._training and rng.random() < 0.4:
                self._word(sample, str(rng.choice(JOINS)))
                self._say(sample, concept, colour, rng)
        return sample

    def _word(self, sample: Sample, word: str) -> None:
        sample.rows.append(self._drawings.word_rows[word])
        sample.words.append(word)

    def _say(
        self, sample: Sample, concept: int, colour: str | None, rng: np.random.Generator, *, counted: bool = False
    ) -> None:
        """Say a kind of thing, with its colour if one is given; counted where there are several."""
        things = [
            place for place, thing in enumerate(sample.scene.things)
            if thing.concept == concept and colour in (None, thing.colour)
        ]  # fmt: skip
        first = len(sample.rows)
        many = counted and len(things) > 1
        if many:
            self._word(sample, COUNTS[len(things) - 2])
        if colour:
            self._word(sample, colour)
        sample.rows.append(self._drawings.plural_rows[concept] if many else self._row(concept, rng))
        sample.words.append(self._drawings.names[concept])
        sample.phrases.append(Phrase(first, len(sample.rows), things))

    def _row(self, concept: int, rng: np.random.Generator) -> NDArray[np.float32]:
        return self._drawings.any_row(concept, rng) if self._training else self._drawings.name_rows[concept]


def _beside(thing: Thing, anchor: Thing, axis: int, sign: int, rng: np.random.Generator) -> bool:
    """Put a thing on one side of the anchor, along an axis; False where the scene has no room there."""
    margin = 0.45 * thing.side
    nearest = (anchor.side + thing.side) / 2 * 0.8
    room = (anchor.centre[axis] - margin) if sign < 0 else (SIDE - margin - anchor.centre[axis])
    if room < nearest:
        thing.side = max(SMALLEST, min(LARGEST, thing.side * 0.6))
        margin, nearest = 0.45 * thing.side, (anchor.side + thing.side) / 2 * 0.8
        room = (anchor.centre[axis] - margin) if sign < 0 else (SIDE - margin - anchor.centre[axis])
        if room < nearest:
            return False
    along = anchor.centre[axis] + sign * rng.uniform(nearest, room)
    other = float(np.clip(anchor.centre[1 - axis] + rng.normal(0, 25), margin, SIDE - margin))
    thing.centre = (along, other) if axis == 0 else (other, along)
    return True
