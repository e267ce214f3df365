"""WordNet's files are read as their manual says."""

import numpy as np
import pytest

from models.errors import ModelError
from models.zero_shot import wordnet
from models.zero_shot.collect import describe, quantise, starts

DATA = """\
  1 This software and database is being provided to you, the LICENSEE, by
00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | what exists
00000002 05 n 02 animal 0 beast 1 002 @ 00000001 n 0000 + 00000009 v 0101 | a living thing; "no \\"plant\\" is one"
00000003 05 n 02 Big_cat a tiger 0 001 @ 00000002 n 0000 | a large cat; striped; "it roared"
00000004 15 n 01 Asia 0 001 @i 00000001 n 0000 | a continent
"""
INDEX = """\
  1 licence
big_cat n 1 1 @ 1 0 00000003
beast n 2 2 @ ~ 2 1 00000002 00000003
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return tmp_path


def test_synsets_have_their_names_keys_parents_and_definitions(files):
    synsets = wordnet.read_synsets(files / "data.noun")
    assert len(synsets) == 4
    tiger = synsets["00000003"]
    assert tiger.lemmas == ("Big cat", "tiger")
    assert tiger.keys == ("big_cat%1:05:10", "tiger%1:05:00")
    assert (tiger.parents, tiger.instance) == (("00000002",), False)
    assert tiger.gloss == "a large cat; striped"
    assert synsets["00000002"].parents == ("00000001",)
    assert synsets["00000004"].instance
    assert wordnet.keys_to_offsets(synsets)["beast%1:05:01"] == "00000002"


def test_senses_keep_their_order(files):
    assert wordnet.read_senses(files / "index.noun") == {
        "big cat": ["00000003"],
        "beast": ["00000002", "00000003"],
    }


def test_the_hierarchy_is_walked_both_ways(files):
    synsets = wordnet.read_synsets(files / "data.noun")
    assert wordnet.below(synsets, "00000002") == {"00000002", "00000003"}
    assert wordnet.chain(synsets, "00000003", 4) == ["animal", "entity"]
    assert describe(synsets, "00000003") == "Big cat, animal, entity: a large cat; striped"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"data\.noun"):
        wordnet.read_synsets(tmp_path / "data.noun")


def test_quantised_rows_keep_their_angles():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((200, 6)) @ rng.standard_normal((6, 40))).astype(np.float32)
    values, scale = quantise(rows, axes=6)
    restored = values * scale
    centred = rows - rows.mean(axis=0)
    assert np.abs(values).max() == 127
    assert restored @ restored.T == pytest.approx(
        centred @ centred.T, abs=0.02 * float(np.abs(centred).max() ** 2 * 40)
    )
    assert starts([2, 0, 3]).tolist() == [0, 2, 2, 5]
