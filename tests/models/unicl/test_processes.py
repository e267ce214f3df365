"""Several processes learn what one learns from the joined batch."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.unicl.checkpoint import read
from models.unicl.config_file import from_json
from models.unicl.loss import unicl_loss
from models.unicl.network import UniCL
from tests.support import unicl_step
from tests.support.two_processes import run_together
from tests.support.unicl_run import RECIPE, run, write_inputs

pytestmark = pytest.mark.slow
STEPS = replace(RECIPE, steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def halves(folder: Path) -> list[dict[str, Tensor]]:
    work = functools.partial(unicl_step.step_and_run, inputs=folder, out=folder / "two", recipe=STEPS)
    return run_together(work, folder)


def test_loss_and_every_gradient_are_those_of_the_joined_batch(halves: list[dict[str, Tensor]]) -> None:
    network = unicl_step.model()
    images, ids, labels = unicl_step.batch()
    loss = unicl_loss(*network(images, ids), labels)
    loss.backward()
    torch.testing.assert_close((halves[0]["loss"] + halves[1]["loss"]) / 2, loss.detach())
    for name, parameter in network.named_parameters():
        for half in halves:
            torch.testing.assert_close(half[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_run_ends_where_that_of_one_process_ends(folder: Path, halves: list[dict[str, Tensor]]) -> None:
    alone = torch.tensor(run(folder, folder / "one", STEPS, drop_path=0.0))
    for half in halves:
        torch.testing.assert_close(half["losses"], alone, rtol=1e-4, atol=1e-4)
    # Answers, not weights: those without influence, such as the biases of attention keys, go where rounding sends them.
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[9, 1, 10], [9, 7, 10]])
    with torch.no_grad():
        one, two = trained(folder / "one"), trained(folder / "two")
        torch.testing.assert_close(one.encode_image(images), two.encode_image(images), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.encode_text(ids), two.encode_text(ids), rtol=1e-3, atol=1e-4)


def trained(out: Path) -> UniCL:
    return read(out / "model.safetensors", from_json((out / "config.json").read_text()))
