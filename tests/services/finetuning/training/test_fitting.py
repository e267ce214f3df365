"""A fit trains encoders as it trains heads: it learns, resumes exactly, keeps to its budget, survives mishaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.catalog.geometry import ImagePreprocess
from services.errors import Problem
from services.finetuning.data.examples import Examples
from services.finetuning.data.pictures import Pictures
from services.finetuning.heads.recipe import Recipe
from services.finetuning.search.grid import Best, reference_search, run
from services.finetuning.search.tpe import tpe_search
from services.finetuning.strategies import names
from services.finetuning.training import fitting
from services.finetuning.training.fitting import evaluate, fit
from services.finetuning.training.hooks import Hooks
from tests.support import tiny_encoders
from tests.support.tiny_encoders import SIDE

SPEC = ImagePreprocess(size=SIDE, resize=SIDE)
FIXED = {"learning_rate": 0.02, "weight_decay": 1e-4, "epochs": 6, "batch_size": 8}


def stripes(per_class: int = 8, seed: int = 0) -> Examples:
    """Noisy pictures whose stripes stand, lie, or are none."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(128, 25, (3 * per_class, 3, SIDE, SIDE))
    labels = [[row % 3] for row in range(3 * per_class)]
    wave = 60 * np.sign(np.sin(np.arange(SIDE)))
    pixels[0::3] += wave[:, None]
    pixels[1::3] += wave
    return Examples(Pictures([pixels.clip(0, 255).astype(np.uint8)], SPEC), labels)


@pytest.mark.parametrize("method", names())
def test_every_method_learns_and_leaves_the_encoder_alone(method: str) -> None:
    encoder = tiny_encoders.build("vit")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    recipe = Recipe(3, method=method, **FIXED)
    fitted = fit(stripes(), None, recipe, None, hooks=Hooks(), encoder=encoder)
    assert evaluate(fitted, stripes(seed=1), recipe) > 0.6
    assert (fitted.trainable > 0) == (method != "linear_probe")
    assert fitted.head_parameters == 32 * 3 + 3
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


class Killed(BaseException):
    """As when the process ends."""


@pytest.mark.parametrize(("phase", "at"), [("watch", 2), ("final", 1)])
def test_a_fit_that_was_killed_goes_on_to_the_same_weights(phase: str, at: int) -> None:
    encoder, recipe = tiny_encoders.build("vit"), Recipe(3, method="lora", **FIXED, encoder_rate=1e-3)
    whole = fit(stripes(), None, recipe, None, hooks=Hooks(), encoder=encoder)
    kept: dict[str, tuple[int, dict[str, torch.Tensor]]] = {}

    def keep(name, epoch, state):
        kept[name] = epoch, state()
        if (name, epoch) == (phase, at):
            raise Killed

    with pytest.raises(Killed):
        fit(stripes(), None, recipe, None, hooks=Hooks(keep=keep), encoder=encoder)
    seen = []
    resumed = fit(
        stripes(),
        None,
        recipe,
        None,
        hooks=Hooks(kept=kept.get, on_epoch=lambda e: seen.append(e.number)),
        encoder=encoder,
    )
    assert seen[0] == at + 1
    assert (resumed.epochs, resumed.validation_score) == (whole.epochs, whole.validation_score)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, atol=0, rtol=0, msg=name)


def test_a_diverged_trial_counts_as_nothing_and_the_search_goes_on() -> None:
    scores, told = [], []
    hooks = Hooks(on_trial=lambda trial, score: scores.append((trial, score)), log=told.append)
    broken = Recipe(3, method="full", search="optuna", trials=3, search_epochs=3, epochs=1, batch_size=8)
    real = fitting._Fit._best_epoch

    def second_is_not_finite(self, trial):
        if trial.number == 1:
            raise FloatingPointError("the loss is nan in epoch 1")
        return real(self, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Fit, "_best_epoch", second_is_not_finite)
        fitted = fit(stripes(), None, broken, None, hooks=hooks, encoder=tiny_encoders.build("vit"))
    assert [trial.number for trial, _ in scores] == [0, 1, 2]
    assert scores[1][1] == 0.0 and scores[0][1] > 0.0
    assert told == ["trial 2 failed and counts as 0: the loss is nan in epoch 1"]
    assert fitted.learning_rate in {trial.learning_rate for trial, _ in (scores[0], scores[2])}


def test_batch_halves_where_memory_runs_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real, told = Pictures.__getitem__, []

    def small_memory(self, index):
        if len(index) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, index)

    monkeypatch.setattr(Pictures, "__getitem__", small_memory)
    recipe = Recipe(3, method="bitfit", **{**FIXED, "batch_size": 16})
    fitted = fit(stripes(), None, recipe, None, hooks=Hooks(log=told.append), encoder=tiny_encoders.build("vit"))
    assert told == [f"memory ran out: going on with a batch of {size}" for size in (8, 4)]
    assert fitted.batch_size == 4
    monkeypatch.setattr(Pictures, "__getitem__", lambda self, index: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(Problem) as caught:
        fit(stripes(), None, recipe, None, hooks=Hooks(), encoder=tiny_encoders.build("vit"))
    assert caught.value.code == "out-of-memory"


def test_budgets_end_the_search_with_its_best_so_far() -> None:
    trials = []
    recipe = Recipe(3, method="layernorm", trials=4, search_epochs=1, epochs=1, batch_size=8)
    fitted = fit(
        stripes(),
        None,
        recipe,
        None,
        hooks=Hooks(on_trial=lambda t, s: trials.append(t)),
        encoder=tiny_encoders.build("vit"),
    )
    assert fitted.trials == len(trials) == 4
    late = Recipe(3, method="layernorm", seconds=60.0, epochs=5, batch_size=8)
    told = []
    fitted = fit(
        stripes(), None, late, None, hooks=Hooks(spent=100.0, log=told.append), encoder=tiny_encoders.build("vit")
    )
    assert (fitted.trials, fitted.epochs) == (1, 1)


def test_optuna_tries_the_same_for_the_same_scores_and_begins_where_it_is_told() -> None:
    def record(search):
        tried = []

        def score(trial):
            tried.append(trial)
            return 1.0 - abs(np.log10(trial.learning_rate) + 3) / 5

        return run(search, score), tried

    best, tried = record(tpe_search(seed=3, trials=10, first=(1e-2, 1e-4)))
    again, same = record(tpe_search(seed=3, trials=10, first=(1e-2, 1e-4)))
    assert (best, tried) == (again, same)
    assert (tried[0].learning_rate, tried[0].weight_decay) == (1e-2, 1e-4)
    assert best.trials == 10 and best.score == max(1.0 - abs(np.log10(t.learning_rate) + 3) / 5 for t in tried)


def test_a_search_that_is_cut_short_gives_the_first_of_its_best() -> None:
    scores = iter([0.2, 0.5, 0.5, 0.9])
    best = run(reference_search(), lambda trial: next(scores), more=lambda done: done < 3)
    assert best == Best(1e-6, pytest.approx(1e-4), 0.5, 3)


def test_pictures_are_what_the_preprocessor_gives(tmp_path) -> None:
    import io

    from PIL import Image

    from services.media.image import read_picture
    from services.media.intake import Limits
    from services.media.preprocess import Preprocessor
    from services.settings import Settings

    rng, files = np.random.default_rng(0), []
    for side in (40, 57, 33):
        sink = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side + 9, 3), np.uint8)).save(sink, "PNG")
        files.append(sink.getvalue())
    limits = Limits.of(Settings(data_dir=tmp_path))
    pictures = Pictures.collect(files, SPEC, tmp_path / "pixels", limits)
    expected = Preprocessor(SPEC).batch([read_picture(data, limits) for data in files])
    np.testing.assert_allclose(pictures[torch.tensor([0, 1, 2])].numpy(), expected, atol=1e-6)
    both = pictures.rows([2, 0]).joined(pictures.rows([1]))
    np.testing.assert_allclose(both[torch.tensor([2, 0])].numpy(), expected[[1, 2]], atol=1e-6)
    assert len(both) == 3
