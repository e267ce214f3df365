"""The set of pictographs: the same bytes from the same packages, and nothing of an unseen concept in training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from models.unicl.pocket.build import STYLES, TITLED, TRAIN_STYLES, build
from models.unicl.pocket.clipart import file_title, icon_title
from models.unicl.pocket.concepts import Concept
from models.unicl.pocket.split import Names, content_words, draw_unseen, families
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictographs")
    build(tiny_pictographs.sources(root / "sources"), root / "one")
    return root


def test_same_sources_give_the_same_bytes(built: Path) -> None:
    build(tiny_pictographs.sources(built / "again"), built / "two")
    for name in ("pictographs.safetensors", "pictographs.json"):
        assert (built / "one" / name).read_bytes() == (built / "two" / name).read_bytes()


def test_every_style_draws_what_it_has_and_people_are_never_core(built: Path) -> None:
    arrays = load_file(built / "one" / "pictographs.safetensors")
    meta = json.loads((built / "one" / "pictographs.json").read_text())
    assert [concept["name"] for concept in meta["concepts"] if not concept["core"]] == ["thumbs up"]
    counts = {style: int((arrays["style"] == number).sum()) for number, style in enumerate(STYLES)}
    assert counts["noto"] == counts["twemoji"] == counts["emojione"] == len(tiny_pictographs.NAMES)
    assert counts["fluent-3d"] == counts["openmoji"] == len(tiny_pictographs.NAMES) - 1  # core ones only
    assert arrays["images"].shape[1:] == (64, 64, 4) and arrays["images"][..., 3].any(axis=(1, 2)).all()


def test_unseen_concepts_are_in_no_title_and_families_stay_together(built: Path) -> None:
    meta = json.loads((built / "one" / "pictographs.json").read_text())
    arrays = load_file(built / "one" / "pictographs.safetensors")
    unseen = {index for index, concept in enumerate(meta["concepts"]) if concept["unseen"]}
    assert len(unseen) == 2  # a fifth of the ten that are core
    assert all(unseen.isdisjoint(family) or unseen.issuperset(family) for family in meta["families"])
    assert any({"red apple", "green apple"} == {meta["concepts"][i]["name"] for i in f} for f in meta["families"])
    for index in unseen:
        assert f"ancient {meta['concepts'][index]['name']}" not in meta["titles"]
    seen = next(c["name"] for c in meta["concepts"] if c["core"] and not c["unseen"] and "apple" not in c["name"])
    assert f"ancient {seen}" in meta["titles"]
    assert "anvil" in meta["titles"] and "empty" not in meta["titles"]  # what draws nothing is left out
    titled = arrays["style"] == TITLED
    assert (arrays["concept"][titled] == -1).all() and (arrays["title"][titled] >= 0).all()


def test_without_clip_art_only_titles_are_missing(built: Path) -> None:
    folders = {name: path for name, path in tiny_pictographs.sources(built / "less").items() if name != "clipart"}
    build(folders, built / "three")
    whole, less = (json.loads((built / name / "pictographs.json").read_text()) for name in ("one", "three"))
    assert set(whole["titles"]) - set(less["titles"]) == {"hammer, tools"}
    assert whole["concepts"] == less["concepts"]


def _concept(name: str) -> Concept:
    return Concept("0", "0.png", name, (name,), (), "Objects", "tool", True)


def test_families_are_by_name_or_by_pixels() -> None:
    concepts = [_concept(name) for name in ("red heart", "blue heart", "axe", "hatchet", "moon")]
    rows = np.eye(5, dtype=np.float32)
    rows[3] = rows[2] * 0.99
    assert sorted(families(concepts, rows)) == [[0, 1], [2, 3], [4]]


def test_a_name_of_nothing_but_modifiers_keeps_its_words() -> None:
    assert content_words("left right arrow") == {"arrow"} and content_words("up button") == {"up", "button"}


def test_a_fifth_is_unseen_in_whole_families() -> None:
    grouped = [[0, 1], *([index] for index in range(2, 100))]
    unseen = draw_unseen(grouped)
    assert len(unseen) == 20 and (0 in unseen) == (1 in unseen) and unseen == draw_unseen(grouped)


@pytest.mark.parametrize(
    ("title", "named"), [("old hot dogs, food", True), ("dog", False), ("the wolf, mammals", True), ("wolfram", False)]
)
def test_titles_that_name_a_concept_are_recognised(title: str, named: bool) -> None:
    assert Names([_concept("hot dog"), _concept("wolf face")]).named_in(title) is named


def test_titles_are_made_of_file_names() -> None:
    assert file_title("lightbulb_karl_bartel_01", "bulb") == "lightbulb, bulb"
    assert file_title("01", "stars") == ""
    assert icon_title("ancient-sword") == "ancient sword"


def test_no_style_is_for_two_uses() -> None:
    assert len(set(STYLES)) == len(STYLES) and not set(TRAIN_STYLES) & {"fxemoji", "fluent-3d", "openmoji"}
