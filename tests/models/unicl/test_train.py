"""Training: it learns, and a killed run continues to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.unicl.checkpoint import read
from models.unicl.config_file import from_json
from models.unicl.network import UniCL
from models.unicl.tokens import from_file
from models.unicl.train import Recipe, TrainingError, command, main
from tests.support import unicl_run
from tests.support.unicl_run import RECIPE, run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unicl_run.write_inputs(tmp_path_factory.mktemp("unicl"))


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_and_a_name_finds_its_picture(inputs: Path, tmp_path: Path) -> None:
    losses = run(inputs, tmp_path, replace(RECIPE, steps=60, average=0.9))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    model = trained(tmp_path)
    tokens = from_file(inputs / "tokenizer.json", 8, len(unicl_run.WORDS))
    shades = torch.tensor(list(unicl_run.COLOURS.values())) / 255
    normal = (shades - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        images = model.encode_image(normal[:, :, None, None].expand(-1, 3, 16, 16))
        texts = model.encode_text(tokens([f"a {name} square" for name in unicl_run.COLOURS]))
    assert (images @ texts.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_pictures_that_other_processes_read_give_the_same_bits(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=3)
    here = run(inputs, tmp_path / "here", recipe)
    monkeypatch.delattr("os.fork")  # this process has threads by now
    assert run(inputs, tmp_path / "elsewhere", replace(recipe, workers=1)) == here
    assert same_weights(tmp_path / "here", tmp_path / "elsewhere")


@pytest.mark.parametrize("stop_after", [5, 8, 11])
def test_stopped_run_continues_to_the_same_bits(inputs: Path, tmp_path: Path, stop_after: int) -> None:
    whole = run(inputs, tmp_path / "whole")
    run(inputs, tmp_path / "broken", stop_after=stop_after)
    rest = run(inputs, tmp_path / "broken")
    assert len(rest) == RECIPE.steps - stop_after // RECIPE.save_every * RECIPE.save_every
    assert rest == whole[-len(rest) :]
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    log = [json.loads(line)["step"] for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert log == list(range(RECIPE.steps))


@pytest.mark.slow
def test_killed_process_continues_to_the_same_bits(inputs: Path, tmp_path: Path) -> None:
    def options(out: str) -> list[str]:
        values = {"data": inputs / "data", "model": inputs / "model.json", "tokenizer": inputs / "tokenizer.json"}
        values |= {"out": tmp_path / out, "size": 16, "steps": 60, "batch-size": 8, "warmup": 2, "save-every": 5}
        pairs = [part for name, value in values.items() for part in (f"--{name}", str(value))]
        return [*pairs, "--bfloat16", "true"]

    process = subprocess.Popen(
        [sys.executable, "-m", "models.unicl.train", *options("killed")], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    main(options("killed"))
    main(options("whole"))
    assert same_weights(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"--data": "nowhere"}, "has no readable pairs.jsonl"),
        ({"--model": "tokenizer.json"}, "no UniCL configuration"),
        ({"--tokenizer": "model.json"}, "model.json is no tokenizer"),
        ({"--model": "absent.json"}, "absent.json: No such file"),
    ],
)
def test_wrong_input_is_told_in_a_line_and_ends_with_1(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
    said: str,
) -> None:
    right = {"--data": "data", "--model": "model.json", "--tokenizer": "tokenizer.json"}
    files = [part for name, file in (right | wrong).items() for part in (name, str(inputs / file))]
    monkeypatch.setattr("sys.argv", ["train", *files, "--out", str(tmp_path / "out")])
    assert command() == 1
    assert said in capsys.readouterr().err


def test_switch_that_is_neither_true_nor_false_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "a", "--model", "b", "--tokenizer", "c", "--out", "d", "--bfloat16", "yes"])
    assert "'yes' is neither true nor false" in capsys.readouterr().err


def trained(out: Path) -> UniCL:
    return read(out / "model.safetensors", from_json((out / "config.json").read_text()))


def test_checkpoint_of_another_recipe_is_not_continued(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, stop_after=5)
    with pytest.raises(TrainingError, match="another learning_rate"):
        run(inputs, tmp_path, replace(RECIPE, learning_rate=1e-3))


def test_checkpoint_of_another_network_is_not_continued(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, stop_after=5)
    with pytest.raises(TrainingError, match="another network"):
        run(inputs, tmp_path, drop_path=0.0)


def test_run_whose_log_was_removed_continues(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, stop_after=5)
    (tmp_path / "log.jsonl").unlink()
    assert len(run(inputs, tmp_path)) == RECIPE.steps - 4


def test_loss_that_is_not_finite_ends_the_run_with_its_reason(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is .* at step") as caught:
        run(inputs, tmp_path, replace(RECIPE, learning_rate=1e30, warmup=1, clip=1e30))
    assert "learning_rate" in caught.value.remedy


def test_finished_run_has_nothing_left_to_do(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path)
    assert run(inputs, tmp_path) == []
    assert (tmp_path / "model.safetensors").exists()


def test_temperature_is_bounded(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path, replace(RECIPE, most_temperature=2.0))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert max(line["temperature"] for line in log) <= 2.0001


def test_rate_warms_up_then_falls_to_its_least() -> None:
    recipe = Recipe(steps=100, warmup=10, learning_rate=1.0, least_rate=0.1)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
