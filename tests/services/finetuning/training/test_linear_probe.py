"""The clean fit tunes on validation, stops early, survives a diverged trial and replays stored ones."""

import numpy as np
import pytest
import torch

from services.datasets.splits import SplitError
from services.finetuning.training.fitting import Examples, Hooks, Recipe, evaluate, fit


def blobs(per_class=20, classes=3, dim=16, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((classes, dim)) * 2
    labels = [label for label in range(classes) for _ in range(per_class)]
    features = centres[labels] + spread * rng.standard_normal((len(labels), dim))
    return Examples(features.astype(np.float32), [[label] for label in labels])


def test_a_separable_set_is_learnt_and_scored_on_unseen_rows():
    fitted = fit(blobs(), None, Recipe(3), None, hooks=Hooks())
    assert fitted.validation_score == 1.0
    assert evaluate(fitted, blobs(seed=1), Recipe(3)) > 0.95


def test_the_same_seed_gives_the_same_head():
    one, two = (
        fit(blobs(), None, Recipe(3, learning_rate=0.1, weight_decay=0.0), None, hooks=Hooks()) for _ in range(2)
    )
    torch.testing.assert_close(one.head.linear.weight, two.head.linear.weight, atol=0, rtol=0)


def test_stored_trials_are_not_run_again_and_the_outcome_is_the_same():
    scores = {}
    first = fit(blobs(spread=4), None, Recipe(3), None, hooks=Hooks(on_trial=lambda t, s: scores.update({t.number: s})))
    run_again = []
    hooks = Hooks(on_trial=lambda t, s: run_again.append(t), stored=lambda t: scores.get(t.number))
    second = fit(blobs(spread=4), None, Recipe(3), None, hooks=hooks)
    assert run_again == []
    assert (second.learning_rate, second.weight_decay) == (first.learning_rate, first.weight_decay)
    torch.testing.assert_close(first.head.linear.weight, second.head.linear.weight, atol=0, rtol=0)


def test_it_stops_when_asked():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(blobs(), None, Recipe(3), None, hooks=Hooks(between=stop))


def test_one_image_a_class_needs_fixed_hyper_parameters():
    tiny = blobs(per_class=1)
    with pytest.raises(SplitError, match="two images a class"):
        fit(tiny, None, Recipe(3), None, hooks=Hooks())
    fitted = fit(tiny, None, Recipe(3, learning_rate=0.1, weight_decay=0.0), None, hooks=Hooks())
    assert evaluate(fitted, tiny, Recipe(3)) == 1.0


def test_several_labels_are_scored_by_average_precision():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((80, 8)).astype(np.float32)
    labels = [[c for c in range(3) if row[c] > 0] for row in features]
    recipe = Recipe(3, multilabel=True, learning_rate=0.1, weight_decay=1e-4)
    fitted = fit(Examples(features, labels), None, recipe, None, hooks=Hooks())
    assert fitted.validation_score > 0.9
