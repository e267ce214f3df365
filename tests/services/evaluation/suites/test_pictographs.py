"""Sets that are drawn from the pictographs: styles and unseen concepts are kept apart, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.errors import Problem
from services.evaluation.suites import registry
from services.evaluation.suites.pictographs import drawings
from services.evaluation.suites.preparing import prepare
from services.evaluation.suites.registry import Pictographs, SuiteSet
from services.settings import Settings

STYLES = ["noto", "openmoji", "titled"]
CONCEPTS = [
    {"code": "A", "name": "apple", "category": "Food", "core": True, "unseen": False},
    {"code": "B", "name": "bread", "category": "Food", "core": True, "unseen": True},
    {"code": "C", "name": "cart", "category": "Objects", "core": True, "unseen": False},
    {"code": "D", "name": "drum", "category": "Objects", "core": True, "unseen": True},
    {"code": "E", "name": "flag", "category": "Flags", "core": False, "unseen": False},
]
ROWS = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (-1, 2)]
"""Concept and style; the second apple of Noto is one too many."""


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder as ``sightline datasets build`` writes it: drawing ``n`` has colour ``n`` and a clear left half."""
    folder = tmp_path / "sets" / "pictographs"
    folder.mkdir(parents=True)
    (folder / "pictographs.json").write_text(json.dumps({"styles": STYLES, "concepts": CONCEPTS}))
    images = np.zeros((len(ROWS), 64, 64, 4), np.uint8)
    images[..., :3] = np.arange(len(ROWS), dtype=np.uint8)[:, None, None, None]
    images[:, :, 32:, 3] = 255
    concept, style = np.array(ROWS, np.int32).T
    save_file({"images": images, "concept": concept.copy(), "style": style.copy()}, folder / "pictographs.safetensors")
    return tmp_path / "sets"


def spec_of(classes: list[str], **source: str) -> tuple[SuiteSet, Pictographs]:
    made = Pictographs(kind="pictographs", train=("noto",), test=("openmoji",), **source)
    return SuiteSet(name="mine", task="classification", metric="accuracy", classes=classes, source=made), made


def test_a_class_is_a_concept_whose_styles_are_split(sets: Path) -> None:
    found = list(drawings(*spec_of(["drum", "apple"]), sets))
    assert [(path, split, label) for path, split, label, _ in found] == [
        ("A-noto.png", "train", 1),
        ("A-openmoji.png", "test", 1),
        ("D-noto.png", "train", 0),
        ("D-openmoji.png", "test", 0),
    ]
    first, second = found[0][3], found[1][3]
    assert first.shape == (64, 64, 3) and (first[:, :32] == 255).all() and (first[:, 32:] == 0).all()
    assert (second[:, 32:] == 2).all()


def test_a_category_is_trained_on_seen_concepts_and_tested_on_unseen_ones(sets: Path) -> None:
    found = [row[:3] for row in drawings(*spec_of(["Food", "Objects"], by="category"), sets)]
    assert found == [
        ("A-noto.png", "train", 0),
        ("B-openmoji.png", "test", 0),
        ("C-noto.png", "train", 1),
        ("D-openmoji.png", "test", 1),
    ]


def test_a_class_without_a_concept_is_named(sets: Path) -> None:
    with pytest.raises(Problem) as caught:
        list(drawings(*spec_of(["apple", "pear"]), sets))
    assert caught.value.code == "suite-labels" and "'pear'" in (caught.value.detail or "")


@pytest.mark.parametrize("name", ["pictographs-unseen", "pictographs-seen", "pictograph-categories", "flags"])
def test_where_nothing_was_built_the_command_is_said(name: str, tmp_path: Path) -> None:
    pocket = registry.suite("pocket")
    [spec] = registry.choose(pocket, (name,))
    with pytest.raises(Problem) as caught:
        prepare(pocket, spec, Settings(data_dir=tmp_path), lambda *_: None)
    assert caught.value.code == "suite-data-missing" and str(tmp_path / "sets") in (caught.value.detail or "")
    assert "sightline datasets build pictographs" in (caught.value.remedy or "")


def test_what_must_be_built_is_outside_of_the_average() -> None:
    assert registry.suite("pocket").averaged == ("digits", "faces", "textures", "clothing")
