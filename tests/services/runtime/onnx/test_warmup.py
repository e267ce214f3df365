"""What a model costs is measured, and decides how large batches are and where they run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from models.catalog.card import Batching, Card, TextPreprocess
from models.catalog.geometry import ImagePreprocess
from services.errors import Kind, Problem
from services.runtime.batching.service_time import ServiceTime
from services.runtime.onnx.warmup import batch_rows, choose, example, row_seconds
from services.runtime.protocol import Tensor
from services.runtime.tensors import Stacker, chunks
from tests.support import tiny_models


def test_smallest_batch_that_is_nearly_as_quick_to_the_row_is_chosen() -> None:
    assert choose({1: 1.0, 2: 0.98, 4: 1.0, 8: 1.2}, 8) == 1
    assert choose({1: 1.0, 2: 0.6, 4: 0.5, 8: 0.49}, 8) == 4
    assert choose({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.12}, 8) == 8
    assert choose({1: 1.0}, 1) == 1


def test_sizes_beyond_the_measured_ones_are_trusted_only_while_batching_pays() -> None:
    assert choose({1: 1.0, 2: 0.6}, 64) == 64
    assert choose({1: 1.0, 2: 1.0}, 64) == 1


def _warm(card: Card, seconds: Mapping[int, float]) -> tuple[int, list[int]]:
    sizes: list[int] = []

    def run(inputs: Mapping[str, Tensor]) -> float:
        sizes.append(len(next(iter(inputs.values()))))
        return seconds[sizes[-1]]

    alone = row_seconds(card, run)
    return batch_rows(card, run, alone, lambda cost, rows, took: None), sorted(set(sizes))


def test_batch_size_follows_the_measurement() -> None:
    card = tiny_models.card("m", tiny_models.adder(), batching=Batching(max_batch_size=6))
    assert _warm(card, {1: 0.01, 2: 0.02, 4: 0.04, 6: 0.09}) == (1, [1, 2, 4, 6])
    assert _warm(card, {1: 0.01, 2: 0.01, 4: 0.01, 6: 0.01}) == (6, [1, 2, 4, 6])


def test_card_that_waits_for_batches_gets_them() -> None:
    card = tiny_models.card("m", tiny_models.adder(), batching=Batching(max_batch_size=4, max_delay_us=100))
    assert _warm(card, {1: 0.01, 2: 0.02, 4: 0.09})[0] == 4


def test_model_that_fails_on_its_own_shape_is_refused_and_one_of_free_shape_is_left_cold() -> None:
    def fails(inputs: Mapping[str, Tensor]) -> float:
        raise Problem(Kind.INVALID, "tensor-value", "cannot")

    fixed = tiny_models.card("m", tiny_models.adder())
    with pytest.raises(Problem, match="cannot"):
        row_seconds(fixed, fails)
    free = tiny_models.card("m", tiny_models.classifier(size=None), batching=Batching(max_batch_size=5))
    assert row_seconds(free, fails) == float("inf")
    assert batch_rows(free, fails, float("inf"), lambda cost, rows, took: None) == 5


def test_examples_have_the_shapes_of_real_requests() -> None:
    image = tiny_models.card("m", tiny_models.classifier(size=None), image=ImagePreprocess(size=48))
    assert example(image, 2)["image"].shape == (2, 3, 48, 48)
    text = tiny_models.card("m", tiny_models.text_encoder(), text=TextPreprocess(max_length=12))
    given = example(text, 3)
    assert given["input_ids"].shape == given["attention_mask"].shape == (3, 12)
    assert given["attention_mask"].all()
    padded = tiny_models.card("m", tiny_models.text_encoder(), text=TextPreprocess(max_length=77, padding="max"))
    assert example(padded, 1)["input_ids"].shape == (1, 77)
    texts = example(tiny_models.card("m", tiny_models.echo(("BYTES",))), 2)
    assert texts["in_bytes"].tolist() == [[b""], [b""]]


def test_service_time_learns_fixed_and_growing_part() -> None:
    service = ServiceTime()
    assert (service.seconds(5), service.rows_per_second) == (0.0, 0.0)
    for cost in (1, 2, 4, 8) * 10:
        service.observe(cost, cost, 0.010 + 0.002 * cost)
    assert service.seconds(16) == pytest.approx(0.042, rel=1e-3)
    assert service.seconds(1) == pytest.approx(0.012, rel=1e-3)


def test_service_time_of_one_size_is_proportional() -> None:
    service = ServiceTime()
    service.observe(4, 2, 0.1)
    assert service.seconds(8) == pytest.approx(0.2)
    assert service.rows_per_second == pytest.approx(20)


def test_service_time_forgets() -> None:
    service = ServiceTime()
    for seconds in [1.0] * 50 + [0.01] * 200:
        service.observe(1, 1, seconds)
    assert service.seconds(1) == pytest.approx(0.01, rel=0.05)


def test_service_time_is_never_negative() -> None:
    service = ServiceTime()
    for cost, seconds in [(1, 0.5), (10, 0.1), (100, 0.01)] * 5:
        service.observe(cost, cost, seconds)
    assert all(service.seconds(cost) >= 0 for cost in (0, 1, 50, 1000))


def test_undisturbed_time_is_not_moved_by_a_busy_machine() -> None:
    service = ServiceTime()
    assert service.undisturbed(1) == float("inf")
    for cost in (1, 2, 4, 8):
        service.observe(cost, cost, 0.001 * cost)
    service.calibrate()
    for number in range(200):  # every third run is held up
        service.observe(2, 2, 0.02 if number % 3 == 0 else 0.0021)
    assert service.undisturbed(2) == pytest.approx(0.0023, rel=0.3)
    assert service.seconds(2) > 0.005
    for _ in range(400):  # and here the model really is slower than it was
        service.observe(2, 2, 0.02)
    assert service.undisturbed(2) == pytest.approx(0.02, rel=0.05)


def test_stacker_reuses_one_buffer_for_batches_of_any_size() -> None:
    stacker = Stacker()
    big = stacker.stack([{"x": np.full((2, 3, 2), n, np.float32)} for n in range(4)])["x"]
    assert big.shape == (8, 3, 2)
    assert big[:, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    small = stacker.stack([{"x": np.full((1, 5), n, np.float32)} for n in range(2)])["x"]
    assert small.tolist() == [[0] * 5, [1] * 5]
    assert np.shares_memory(big, small)
    alone = np.zeros((1, 5), np.float32)
    assert stacker.stack([{"x": alone}])["x"] is alone


def test_chunks_are_even_and_whole() -> None:
    x = np.arange(9)
    parts = list(chunks({"x": x}, 9, 8))
    assert [rows for _, rows in parts] == [4, 5]
    assert np.concatenate([part["x"] for part, _ in parts]).tolist() == x.tolist()
    assert [rows for _, rows in chunks({"x": np.arange(64)}, 64, 16)] == [16] * 4
