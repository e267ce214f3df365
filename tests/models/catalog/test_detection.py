"""A card says how a detector's outputs are read, and refuses what could not be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.catalog.card import Card
from models.catalog.detection import Decode, Detection, Presence


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"box": "grid"}, "strides"),
        ({"strides": (8,)}, "strides"),
        ({"box": "priors"}, "priors"),
        ({"layout": "rows", "transposed": True}, "layout joined"),
        ({"layout": "separate", "objectness": True}, "layout joined"),
    ],
)
def test_a_form_without_what_it_needs_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Decode.model_validate(fields)


def test_a_detectors_card_is_written_and_read() -> None:
    decode = Decode(layout="joined", objectness=True, box="grid", strides=(8, 16, 32))
    card = Card.model_validate(
        {
            "name": "d",
            "task": "detect",
            "family": "f",
            "title": "t",
            "description": "d",
            "licence": {"spdx": "CC0-1.0"},
            "outputs": [{"name": "out", "datatype": "FP32", "shape": [-1, -1, 85]}],
            "roles": {"detections": "out"},
            "detection": Detection(threshold=0.25, presence=Presence(slope=2), decode=decode),
        }
    )
    assert Card.model_validate_json(card.model_dump_json()) == card
