"""The hyper-parameter search tries what ELEVATER's tries, in the same order, and picks the same."""

import json
from pathlib import Path

import pytest

from services.finetuning.search.grid import LEARNING_RATES, WEIGHT_DECAYS, reference_search, run

FIXTURE = json.loads((Path(__file__).parents[3] / "parity" / "elevater_hparam.json").read_text())


def test_grids_equal_the_reference():
    assert pytest.approx(FIXTURE["grid"]["lr"], rel=1e-12) == LEARNING_RATES
    assert pytest.approx(FIXTURE["grid"]["wd"], rel=1e-12) == WEIGHT_DECAYS


@pytest.mark.parametrize("case", FIXTURE["runs"], ids=lambda case: case["name"])
def test_trials_and_winner_equal_the_reference(case):
    scores = iter(case["tried"])
    tried = []

    def score(trial):
        tried.append([trial.lr_index - 6, trial.wd_index])
        given = next(scores)[2]
        return 0.0 if given == "error" else given

    best = run(reference_search(search_left=case["wd_search_left"]), score)
    assert tried == [row[:2] for row in case["tried"]]
    assert best.trials == case["n_trials"]
    assert (best.learning_rate, best.weight_decay) == pytest.approx((case["final_lr"], case["final_wd"]), rel=1e-12)


def test_the_first_release_gives_the_right_place_though_it_scored_the_left():
    """Its two trials have the same setting; where they differ by chance the winner is the place to the right."""

    def score(trial):
        if trial.lr_index:
            return 0.0
        return {0: 1.0, 7: 2.0}.get(trial.number, 0.0)  # trial 7: from place 0, left falls away, 8 is at the right

    best = run(reference_search(search_left=True), score)
    assert best.weight_decay == WEIGHT_DECAYS[8]
