"""Tables are made of the lines that were measured: the newest encoder counts, differences are taken set by set."""

from __future__ import annotations

import json
import math
from pathlib import Path

from services.evaluation.reports.results import cells
from speed.adaptation_report import difference_table, read, score_table


def line(protocol: str, score: float, *, shots: int = 5, seed: int = 0, dataset: str = "mnist", **more: object) -> str:
    zero = protocol.startswith("zero")
    own = {
        "key": f"m|{dataset}|{protocol}|{shots}|{seed}",
        "model": "m",
        "dataset": dataset,
        "protocol": protocol,
        "shots": 0 if zero else shots,
        "seed": seed,
        "metric": "accuracy",
        "method": None if zero else "any",
        "score": score,
        "error_test": 0.03,
        "trainable": 0 if zero else 1234,
        "side": 0,
        "share": 1.0,
        "encoder": "old",
    }
    return json.dumps(own | more)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(one + "\n" for one in lines))
    return path


def test_a_line_for_every_set_and_number_of_shots(tmp_path: Path) -> None:
    path = write(
        tmp_path / "units.jsonl",
        line("zero-shot", 0.5),
        line("linear-probe", 0.1),
        line("linear-probe", 0.9, encoder="new"),
        line("linear-probe-language", 0.4, shots=20),
    )
    [(way, records)] = read(path).items()
    assert way == ("m", 0)
    header, _, five, twenty, trained = score_table(cells(records))
    assert header == "| data set | shots | zero-shot | probe, random | probe, language |"
    assert five == "| mnist | 5 | 50.0 ± 3.0 | **90.0 ± 3.0 (1 seed)** | – |"
    assert twenty == "| mnist | 20 | **50.0 ± 3.0** | – | 40.0 ± 3.0 (1 seed) |"
    assert trained == "|  | *trained* | *0* | *1,234* | *1,234* |"


def test_a_difference_is_a_mean_over_the_sets_that_have_both(tmp_path: Path) -> None:
    path = write(
        tmp_path / "units.jsonl",
        line("linear-probe", 0.5),
        line("linear-probe-language", 0.7),
        line("linear-probe", 0.6, dataset="eurosat"),
        line("linear-probe-language", 0.7, dataset="eurosat"),
        line("linear-probe", 0.9, dataset="clothing"),
    )
    [(way, records)] = read(path).items()
    *_, row = difference_table({way: cells(records)})
    error = 100 * math.hypot(0.03, 0.03) / math.sqrt(2)
    assert row.startswith(f"| m | 4 or 5 | **+15.0 ± {error:.1f}** (2 sets) | –")


def test_another_share_of_the_learning_rate_is_a_column_of_its_own(tmp_path: Path) -> None:
    lines = [line("lora-language", 0.2, share=1.0), line("lora-language", 0.6, share=0.1)]
    [records] = read(write(tmp_path / "units.jsonl", *lines)).values()
    header, _, five, _ = score_table(cells(records))
    assert header == "| data set | shots | LoRA | LoRA, encoder at 1 |"
    assert five == "| mnist | 5 | **60.0 ± 3.0 (1 seed)** | 20.0 ± 3.0 (1 seed) |"
