"""Scenes: boxes lie around what is drawn, captions are true of their scene, and both depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from models.glip.pocket.batches import Batches
from models.glip.pocket.captions import Composer, holds
from models.glip.pocket.drawings import Drawings
from models.glip.pocket.rows import COLOURS, RELATIONS, embed
from models.glip.pocket.scenes import SIDE, Painter, Thing, recoloured
from models.unicl.pocket.build import TRAIN_STYLES, build
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    root = tmp_path_factory.mktemp("pictographs")
    build(tiny_pictographs.sources(root / "sources"), root / "set")
    embed(root / "set", lambda texts: _rows(len(texts)))
    return Drawings(root / "set")


def _rows(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.random.default_rng(0).standard_normal((count, 256)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def composer(drawings: Drawings) -> Composer:
    return Composer(drawings, drawings.trained, TRAIN_STYLES, training=True, labels=6)


def test_a_box_ends_where_its_drawing_ends(drawings: Drawings) -> None:
    painter = Painter(drawings, training=False)
    drawing = int(drawings.of["noto"][0][0])
    blank, rng = np.random.default_rng(3), np.random.default_rng(3)
    scene = painter.paint([Thing(0, drawing, 60.0, centre=(70.0, 90.0))], rng)
    ground = painter.paint([], blank)
    changed = (np.abs(scene.picture.astype(int) - ground.picture) > 8).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    np.testing.assert_allclose(scene.things[0].box, edges, atol=2)
    assert np.hypot(scene.things[0].centre[0] - 70, scene.things[0].centre[1] - 90) < 2


def test_a_relation_holds_for_the_one_that_is_meant_and_for_no_other_of_its_kind(composer: Composer) -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        found = composer.related(rng)
        if found is None:
            continue
        scene, relation = found
        anchor, meant, other = scene.things[:3]
        seen.add(relation)
        assert meant.concept == other.concept != anchor.concept
        assert holds(relation, meant, anchor) and not holds(relation, other, anchor, 0)
        sample = composer.relation(scene, relation, rng)
        assert sample.words[1] in RELATIONS[relation]
        assert sample.positive_map()[:, 0].tolist() == [place == 1 for place in range(len(scene.things))]
    assert seen == set(RELATIONS)


def test_every_phrase_speaks_of_the_things_that_it_names(composer: Composer, drawings: Drawings) -> None:
    rng = np.random.default_rng(1)
    for sample in (composer.sample(rng) for _ in range(60)):
        assert len(sample.rows) == len(sample.words) <= 24
        for phrase in sample.phrases:
            words = sample.words[phrase.first : phrase.last]
            for thing in (sample.scene.things[number] for number in phrase.things):
                assert drawings.names[thing.concept] == words[-1]
                assert all(word == thing.colour for word in words[:-1] if word in COLOURS)


def test_unseen_concepts_are_neither_drawn_nor_named_in_training(drawings: Drawings) -> None:
    unseen = {index for index, concept in enumerate(drawings.concepts) if concept["unseen"]}
    assert unseen and not unseen & set(drawings.trained.tolist())
    assert set(drawings.concepts_in(["fluent-3d"], unseen=True).tolist()) == unseen


def test_a_tint_is_the_colour_that_it_is_called(drawings: Drawings) -> None:
    base = drawings.images[drawings.of["noto"][0][0]].astype(np.float32)
    solid = base[..., 3] > 200
    mean = {colour: recoloured(base, colour, None)[solid][:, :3].mean(axis=0) for colour in COLOURS}
    for colour, told in mean.items():
        apart = {other: np.abs(told - np.array(true)).sum() for other, true in COLOURS.items()}
        assert min(apart, key=apart.__getitem__) == colour


def test_a_batch_depends_on_its_seed_and_number_alone(composer: Composer, drawings: Drawings) -> None:
    teacher = np.zeros((len(drawings.images), 256), np.float32)
    first, again = Batches(composer, teacher, 3, seed=5), Batches(composer, teacher, 3, seed=5)
    again(7)
    images, rows, targets = first(8)
    other_images, other_rows, other_targets = again(8)
    assert images.shape == (3, 3, SIDE, SIDE) and images.equal(other_images) and rows.equal(other_rows)
    assert targets.boxes.equal(other_targets.boxes) and targets.taken.any()
    assert targets.tokens[~targets.taken].sum() == 0 and (targets.tokens.sum(dim=1)[targets.mask == 0] == 0).all()
