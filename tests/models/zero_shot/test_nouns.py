"""The data that comes with the code is whole, and knows what is a kind of what."""

import numpy as np
import pytest

from models.catalog.labels import label_set
from models.zero_shot.nouns import LICENCE, NOUNS, SYNSETS, Hierarchy, Nouns
from tests.support import tiny_nouns


@pytest.fixture(scope="module")
def nouns():
    return Nouns.read()


@pytest.fixture(scope="module")
def hierarchy(nouns):
    return Hierarchy(nouns)


def synset(nouns, lemma, sense=0):
    return int(nouns.sense_synset[nouns.sense_start[nouns.lemmas.index(lemma)] + sense])


def test_the_arrays_fit_together(nouns):
    size = len(nouns.vectors)
    assert len(nouns.sense_start) == len(nouns.lemmas) + 1
    assert list(nouns.lemmas) == sorted(set(nouns.lemmas))
    assert len(nouns.sense_synset) == len(nouns.sense_rank) == nouns.sense_start[-1]
    assert len(nouns.parent_start) == size + 1
    assert len(nouns.parent) == nouns.parent_start[-1]
    assert max(nouns.sense_synset.max(), nouns.parent.max()) < size
    assert np.isfinite(nouns.unit_vectors()).all()


def test_every_class_of_imagenet_has_its_own_synset(nouns):
    assert len(set(nouns.imagenet.tolist())) == len(label_set("imagenet-1k")) == 1000
    assert len(SYNSETS.read_text().split()) == 1000
    named = {label: int(nouns.imagenet[i]) for i, label in enumerate(label_set("imagenet-1k"))}
    for label in ("tench", "goldfish", "espresso", "toilet paper"):
        assert named[label] == synset(nouns, label)


def test_the_hierarchy_is_the_one_that_imagenet_was_built_on(nouns, hierarchy):
    below = hierarchy.classes_below(nouns.imagenet)
    assert len(below[synset(nouns, "dog")]) == 118
    assert len(below[synset(nouns, "bird")]) == 59
    assert hierarchy.content[synset(nouns, "physical entity")] == pytest.approx(0, abs=0.01)


def test_what_is_or_subsumes_a_class_is_nearest(nouns, hierarchy):
    nearness = hierarchy.nearness(nouns.imagenet)
    assert nearness[nouns.imagenet] == pytest.approx(1)
    assert nearness[synset(nouns, "dog")] == pytest.approx(1)
    assert nearness.min() >= 0
    assert nearness.max() == pytest.approx(1)


def test_it_is_small_and_comes_with_its_licence():
    assert NOUNS.stat().st_size < 5_000_000
    assert "Princeton University" in LICENCE.read_text()


def test_nearness_is_the_content_of_the_most_telling_shared_ancestor():
    own = tiny_nouns.nouns()
    hierarchy = Hierarchy(own)
    cat, bat, animal, fruit = (tiny_nouns.SYNSETS.index(name) for name in ("cat", "bat", "animal", "fruit"))
    nearness = hierarchy.nearness(np.array([cat], np.uint16))
    assert nearness[[cat, animal]] == pytest.approx(1)
    assert nearness[bat] == pytest.approx(hierarchy.content[animal] / hierarchy.content[bat])
    assert nearness[fruit] == 0
