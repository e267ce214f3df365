"""A label finds its meaning however it is written, and nothing is made up where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.encoding.lexicon import Lexicon, Meaning, plain

SENSES = {
    "cat": [(0, 0)],
    "hot dog": [(1, 0)],
    "ice-cream": [(2, 0)],
    "teacup": [(3, 0)],
    "berry": [(4, 0)],
    "crane": [(5, 0), (6, 1)],
    "fireman": [(7, 0)],
    "shoes": [(8, 0)],
    "shoe": [(9, 0)],
    "car": [(10, 0)],
}
NEARNESS = np.array([1, 1, 1, 1, 1, 0.3, 0.9, 1, 0.1, 1, 1], np.float32)


def lexicon(penalty=0.1, names=None):
    lemmas = sorted(SENSES)
    own = [SENSES[lemma] for lemma in lemmas]
    return Lexicon(
        lemmas,
        np.cumsum([0, *map(len, own)]).astype(np.uint32),
        np.array([synset for each in own for synset, _ in each], np.uint16),
        np.array([rank for each in own for _, rank in each], np.uint8),
        NEARNESS,
        names or {},
        penalty,
    )


@pytest.mark.parametrize(
    ("label", "synset"),
    [
        ("cat", 0),
        ("Cats", 0),
        ("a photo of a cat.", 0),
        ("the cat (indoors)", 0),
        ("hot dogs", 1),
        ("hot-dog", 1),
        ("ice cream", 2),
        ("tea cup", 3),
        ("berries", 4),
        ("firemen", 7),
        ("kitty / cat", 0),
        ("lorry or car", 10),
    ],
)
def test_a_label_is_found_as_people_write_it(label, synset):
    assert lexicon().find(label) == Meaning(synset, True)


@pytest.mark.parametrize(("label", "synset"), [("small red car", 10), ("cat on a mat", 0), ("black cats", 0)])
def test_of_a_longer_label_the_head_is_found_and_said_to_be_no_more(label, synset):
    assert lexicon().find(label) == Meaning(synset, False)


@pytest.mark.parametrize("label", ["", " ", "...", "zzz", "the", "日本", "cat" * 100, "(cat)"])
def test_what_the_lexicon_does_not_have_is_not_made_up(label):
    assert lexicon().find(label) is None


def test_the_sense_nearest_to_the_known_classes_is_meant_unless_it_is_unusual():
    assert lexicon(penalty=0.1).find("crane") == Meaning(6, True)
    assert lexicon(penalty=2.0).find("crane") == Meaning(5, True)


def test_a_plural_may_mean_its_singular():
    assert lexicon().find("shoes") == Meaning(9, True)


def test_names_known_beforehand_win():
    assert lexicon(names={"Crane (bird)": 3}).find("crane") == Meaning(3, True)


@given(st.text(max_size=300))
def test_any_text_is_looked_up_without_failing(label):
    lexicon().find(label)
    assert plain(plain(label)) == plain(label)
