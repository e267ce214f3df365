"""Few-shot subsets and validation splits equal the ELEVATER toolkit's, row for row."""

import json
from pathlib import Path

import pytest

from services.datasets.splits import SplitError, few_shot, shortages, validation_split

ROWS = json.loads((Path(__file__).parents[2] / "parity" / "elevater_splits.json").read_text())["rows"]
LABELS = {row["name"]: row["labels"] for row in ROWS if row["labels"] is not None}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}-{row['shots']}-{row['seed']}")
def test_subset_and_split_equal_the_reference(row):
    labels, classes = LABELS[row["labels_ref"]], row["num_classes"]
    chosen = few_shot(labels, classes, row["shots"], row["seed"])
    assert chosen == row["selected"]
    own = [labels[index] for index in chosen]
    if row["train_positions"] is None:
        with pytest.raises(SplitError):
            validation_split(own, classes)
    else:
        train, validation = validation_split(own, classes)
        assert (train, validation) == (row["train_positions"], sorted(row["val_positions"]))


def test_classes_that_cannot_give_the_shots_are_named():
    assert shortages([[0], [0], [0], [1], [0, 1]], 3, 3) == {1: 2, 2: 0}
