"""What a card says of its outputs, and that cards of earlier releases are read as they were meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from models.catalog.card import Card, TensorSpec
from models.catalog.document import document
from models.catalog.roles import Role
from tests.support import tiny_models

OUTPUTS = [
    {"name": "scores", "datatype": "FP32", "shape": [-1, 5]},
    {"name": "pooled", "datatype": "FP32", "shape": [-1, 8]},
    {"name": "modulation", "datatype": "FP32", "shape": [-1, -1, -1]},
]


def content(**fields: Any) -> dict[str, Any]:
    about = {"name": "m", "task": "classify", "family": "f", "title": "t", "description": "d"}
    return {**about, "licence": {"spdx": "CC0-1.0"}, "outputs": OUTPUTS, **fields}


def test_outputs_are_found_by_their_roles() -> None:
    card = Card.model_validate(content(roles={"logits": "scores", "embedding": "pooled"}))
    assert (card.logits, card.embedding, card.modulation) == ("scores", "pooled", None)


def test_a_card_that_names_its_outputs_in_the_old_form_is_read_and_written_in_the_new_one() -> None:
    card = Card.model_validate(content(logits="scores", embedding=None))
    written = card.model_dump(mode="json")
    assert written["roles"] == {"logits": "scores", "modulation": "modulation"}
    assert "logits" not in written and "embedding" not in written
    assert Card.model_validate(written) == card


def test_a_map_that_an_old_card_has_by_its_name_alone_gets_its_role() -> None:
    assert Card.model_validate(content(embedding="pooled")).modulation == "modulation"
    specs = tuple(TensorSpec.model_validate(spec) for spec in OUTPUTS)
    assert Card.model_validate(content(outputs=specs, embedding="pooled")).modulation == "modulation"


def test_an_old_card_without_such_outputs_has_no_roles() -> None:
    assert Card.model_validate(content(outputs=[], logits=None, embedding=None)).roles == {}


def test_a_role_of_an_output_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"'logits' is the output 'probabilities'.*scores, pooled, modulation"):
        Card.model_validate(content(roles={"logits": "probabilities"}))


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="region_features"):
        Card.model_validate(content(roles={"logit": "scores"}))


@pytest.mark.parametrize("role", get_args(Role))
def test_every_role_can_be_on_a_card(role: Role) -> None:
    assert Card.model_validate(content(roles={role: "pooled"})).roles == {role: "pooled"}


def test_the_public_card_keeps_the_fields_that_clients_know_in_their_places() -> None:
    shown = document(Card.model_validate(content(logits="scores")))
    names = list(shown)
    at = names.index("label_set")
    assert names[at : at + 5] == ["label_set", "logits", "embedding", "roles", "pipeline"]
    assert (shown["logits"], shown["embedding"]) == ("scores", None)
    assert Card.model_validate(shown).logits == "scores"


def test_a_written_card_names_its_outputs_in_the_new_form_only(tmp_path: Path) -> None:
    written = json.loads((tiny_models.add_classifier(tmp_path) / "card.json").read_bytes())
    assert written["roles"] == {"logits": "logits", "embedding": "features"}
    assert "logits" not in written and "embedding" not in written
