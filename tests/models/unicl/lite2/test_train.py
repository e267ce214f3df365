"""Training depends on the seed alone, on nothing that is hidden, and what it predicts is near what it was told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.unicl.lite2.network import load, pack
from models.unicl.lite2.space import Space
from models.unicl.lite2.train import Labels, Trainer
from models.zero_shot.nouns import Hierarchy
from tests.support import tiny_nouns, tiny_photos


def trainer() -> Trainer:
    nouns, space = tiny_nouns.nouns(), tiny_photos.space()
    classifier = tiny_nouns.classifier(tiny_photos.WEIGHT, tiny_photos.class_texts(space))
    return Trainer(Labels(space, classifier, nouns, Hierarchy(nouns), tiny_photos.RECIPE), tiny_photos.RECIPE)


def test_the_seed_decides_every_bit() -> None:
    one, other = (tiny_photos.trained()[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    different = tiny_photos.trained(recipe=replace(tiny_photos.RECIPE, seed=1))[0].state_dict()
    assert not torch.equal(one["text.metric"], different["text.metric"])


def test_a_hidden_class_leaves_no_trace() -> None:
    changed = tiny_photos.WEIGHT.copy()
    changed[4] *= -3
    known = (0, 1, 2, 3)
    one, other = (tiny_photos.trained(weight, known)[0].state_dict() for weight in (tiny_photos.WEIGHT, changed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_picture_shows_what_subsumes_it_too() -> None:
    labels = trainer().labels
    cat = 0
    animal = 5 + [tiny_nouns.SYNSETS[s] for s in labels.synsets[5 : 5 + labels.counts[1]]].index("animal")
    assert labels.above[cat, animal] and not labels.above[animal, cat]
    drawn_dog = sum(labels.counts[:2])
    assert labels.above[drawn_dog, 1] and labels.above[1, drawn_dog]  # one synset, two labels
    unknown = len(labels.synsets) - 1
    assert labels.above[unknown].sum() == labels.above[:, unknown].sum() == 1


def test_hidden_labels_are_predicted_from_the_others_alone() -> None:
    own = trainer()
    hidden = np.array([0, 6])
    before = own.predict(hidden, np.random.default_rng(0))
    own.targets = own.targets.clone()
    own.targets[hidden] = 5.0
    assert torch.equal(own.predict(hidden, np.random.default_rng(0)), before)
    own.targets[1] = 5.0
    assert not torch.equal(own.predict(hidden, np.random.default_rng(0)), before)


def test_gradients_reach_all_that_is_learned() -> None:
    own = trainer()
    own.loss(np.random.default_rng(0)).backward()
    for group in own.optimizer.param_groups:
        for parameter in group["params"]:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0


def test_a_class_is_found_by_its_name() -> None:
    model, losses = tiny_photos.trained()
    assert len(losses) == tiny_photos.RECIPE.steps
    rows = torch.from_numpy(tiny_photos.WEIGHT - tiny_photos.WEIGHT.mean(axis=0))
    with torch.no_grad():
        pictures = F.normalize(rows @ model.see, dim=1)
        texts = model.text(torch.from_numpy(tiny_photos.class_texts(tiny_photos.space())))
    assert (pictures @ texts.T).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]


def test_packed_weights_answer_alike(tmp_path: Path) -> None:
    model, _ = tiny_photos.trained()
    pack(model, tmp_path / "weights.safetensors")
    again = load(tmp_path / "weights.safetensors")
    texts = torch.randn(7, tiny_photos.TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(again.text(texts), model.text(texts), atol=5e-3, rtol=0)


def test_what_is_hidden_is_not_drawn_either(tmp_path: Path) -> None:
    space = tiny_photos.space()
    less = space.without(np.array([True, False, False]))
    assert less.owners.tolist() == [0, 1, 1] and less.concept_synsets.tolist() == [9, -1]
    assert np.array_equal(less.pictures, space.pictures[2:]) and np.array_equal(less.concepts, space.concepts[1:])
    less.write(tmp_path / "space.safetensors")
    assert np.array_equal(Space.read(tmp_path / "space.safetensors").pictures, less.pictures)


@pytest.mark.parametrize(("name", "synset"), [("Bat", 5), ("car", 8), ("nothing known", -1)])
def test_a_concept_means_what_its_name_usually_does(name: str, synset: int) -> None:
    from models.unicl.lite2.collect import usual_senses

    assert usual_senses([name], tiny_nouns.nouns()).tolist() == [synset]
