"""The table of lines: every row is a line, and what the catalog and the releases ask of a line is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.catalog import Catalog, CatalogError
from models.catalog.releases import releases
from models.errors import ModelError
from models.families import FAMILIES, builder, converter, family


def test_every_line_of_the_floor_has_one_row() -> None:
    folders = {path.parent.name for path in Path(__file__).parents[2].glob("models/*/family.py")}
    assert sorted(row.module for row in FAMILIES.values()) == sorted(f"models.{folder}.family" for folder in folders)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_holds_something(name: str) -> None:
    line = family(name)
    assert line.builders or line.converter or line.fixtures


def test_every_catalog_entry_has_its_builder_and_every_release_its_converter() -> None:
    for entry in Catalog.read().entries.values():
        assert callable(builder(entry).build), entry.card.name
    for line in {entry.family for entry in releases().values()}:
        assert callable(converter(line).convert), line


def test_unknown_names_are_told_which_there_are() -> None:
    entry = Catalog.read().entry("minilm-l6")
    with pytest.raises(CatalogError, match=r"minilm-l6\.yaml: build 'minlm'") as refusal:
        builder(entry.model_copy(update={"build": "minlm"}))
    assert "it has minilm" in refusal.value.remedy
    with pytest.raises(ModelError, match="no family 'clip'") as unknown:
        family("clip")
    assert "unicl" in unknown.value.remedy
    with pytest.raises(ModelError, match="converts no published checkpoints"):
        converter("minilm")
