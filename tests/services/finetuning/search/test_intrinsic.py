"""The local intrinsic dimension is that of the smallest subspace that does the work, and chooses the parts."""

from __future__ import annotations

import numpy as np
import torch

from models.catalog.geometry import ImagePreprocess
from services.finetuning.data.examples import Examples
from services.finetuning.data.pictures import Pictures
from services.finetuning.heads.recipe import Recipe
from services.finetuning.search.intrinsic import Intrinsic, Subspace, measure, select
from services.finetuning.strategies.sites import projections
from services.finetuning.training.fitting import fit
from services.finetuning.training.hooks import Hooks
from tests.support import tiny_encoders
from tests.support.tiny_encoders import SIDE


def noise(count: int = 12) -> Examples:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)
    return Examples(Pictures([pixels], ImagePreprocess(size=SIDE, resize=SIDE)), [[row % 2] for row in range(count)])


def test_the_dimension_is_the_smallest_that_gains_nine_tenths() -> None:
    scores = ((1, 0.5), (4, 0.66), (16, 0.69))
    assert Intrinsic("query", 1000, probe=0.5, score=0.7, scores=scores).dimension == 16
    assert Intrinsic("mlp", 1000, probe=0.5, score=0.9, scores=scores).dimension == 1000
    assert Intrinsic("mlp", 1000, probe=0.5, score=0.5, scores=scores).dimension == 1000  # nothing to gain


def test_a_subspace_has_orthonormal_directions() -> None:
    site = projections(tiny_encoders.build("vit").network)[0]
    d = torch.nn.Parameter(torch.zeros(8))
    update = Subspace(site, d, torch.Generator().manual_seed(0))
    columns = []
    for index in range(8):
        with torch.no_grad():
            d.zero_()[index] = 1.0
        columns.append(update.weight().detach().flatten())
    gram = torch.stack(columns) @ torch.stack(columns).T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()))
    torch.testing.assert_close(gram.diagonal().mean(), torch.tensor(1.0))


def test_every_part_is_measured_once_and_the_best_are_chosen() -> None:
    encoder, half = tiny_encoders.build("vit"), noise()
    recipe = Recipe(2, search_epochs=3, batch_size=8)
    measured = measure(encoder, half, half, recipe, dimensions=(2, 8))
    assert {one.part for one in measured} == {"query", "key", "value", "output", "mlp"}
    assert [one.dimension for one in measured] == sorted(one.dimension for one in measured)
    assert any(one.score > one.probe for one in measured)


def test_half_of_the_parts_is_chosen_and_none_that_gains_nothing() -> None:
    gaining = [Intrinsic("key", 10, 0.5, 0.7, ((1, 0.7),)), Intrinsic("value", 10, 0.5, 0.7, ((4, 0.7),))]
    idle = [Intrinsic(part, 10, 0.5, 0.5, ()) for part in ("query", "output", "mlp")]
    assert select([*gaining, *idle]) == "key value"
    assert select([gaining[0], *idle]) == "key"
    assert select(gaining) == "key"
    assert select(idle) == ""


def test_where_no_part_gains_the_strategys_own_are_trained(monkeypatch) -> None:
    from services.finetuning.training import fitting

    monkeypatch.setattr(fitting, "measure", lambda *args, **kwargs: [Intrinsic("mlp", 10, 0.5, 0.5, ())])
    told = []
    recipe = Recipe(2, method="lora", options={"parts": "auto"}, learning_rate=0.01, weight_decay=0.0, epochs=1)
    fitted = fit(noise(), None, recipe, None, hooks=Hooks(log=told.append), encoder=tiny_encoders.build("vit"))
    assert fitted.options == {"parts": "query value"} and "no part of the encoder gains" in told[-1]


def test_parts_auto_is_replaced_by_what_was_found(monkeypatch) -> None:
    from services.finetuning.training import fitting

    rest = [Intrinsic(part, 10, 0.5, 0.7, ((9, 0.7),)) for part in ("query", "value")]
    found = [Intrinsic("output", 10, 0.5, 0.7, ((1, 0.7),)), Intrinsic("key", 10, 0.5, 0.7, ((4, 0.7),)), *rest]
    monkeypatch.setattr(fitting, "measure", lambda *args, **kwargs: found)
    told, kept = [], {}
    recipe = Recipe(2, method="lora", options={"parts": "auto"}, learning_rate=0.01, weight_decay=0.0, epochs=1)
    hooks = Hooks(log=told.append, keep=lambda name, epoch, state: kept.update({name: (epoch, state())}))
    fitted = fit(noise(), None, recipe, None, hooks=hooks, encoder=tiny_encoders.build("vit"))
    assert fitted.options == {"parts": "output key"}
    assert told[0].startswith("output: intrinsic dimension 1 of 10")
    monkeypatch.delattr(fitting, "measure")  # a resumed fit does not measure again
    again = fit(
        noise(),
        None,
        recipe,
        None,
        hooks=Hooks(kept=lambda name: kept.get(name) if name == "parts" else None),
        encoder=tiny_encoders.build("vit"),
    )
    assert again.options == fitted.options
