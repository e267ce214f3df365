"""Sums over seeds, places on a leaderboard, curves, comparisons and the choice of a winner."""

import json
import math
from dataclasses import replace

import pytest

from services.errors import Problem
from services.evaluation.reports.comparison import compare, sign_test
from services.evaluation.reports.leaderboard import Run, growth, standings
from services.evaluation.reports.results import Record, cells, parameter_efficiency, t_quantile
from services.evaluation.reports.winner import Choice, winner_of
from services.evaluation.suites.knowledge import ClassKnowledge, pieces, pieces_of_toolkit, prompts, read_knowledge


def record(dataset="a", score=0.5, *, model="m", protocol="p", shots=5, seed=0, trainable=1000, **more):
    key = f"{model}{dataset}{protocol}{shots}{seed}"
    method = None if shots == 0 else "linear_probe"
    return Record(key, model, dataset, protocol, shots, seed, "accuracy", method, None, score, 0.03, 100,
                  trainable=trainable, **more)  # fmt: skip


def run(records, job="job_1", datasets=("a", "b"), mode="strict"):
    return Run(job, "s", mode, tuple(datasets), tuple(datasets), None, tuple(cells(records)))


def test_seeds_are_summed_up_with_an_interval_and_both_sources_of_error():
    [cell] = cells([record(score=0.5, seed=0), record(score=0.6, seed=1), record(score=0.7, seed=2)])
    draws = 0.1 / math.sqrt(3)
    assert cell.mean == pytest.approx(0.6) and cell.stderr == pytest.approx(math.hypot(draws, 0.03))
    assert cell.high - cell.mean == pytest.approx(4.303 * draws)
    assert (cell.seeds, cell.test_images) == ((0, 1, 2), 100)
    [single] = cells([record()])
    assert single.low is None and single.stderr == pytest.approx(0.03)
    assert cells([record(score=None)]) == []


def test_students_quantiles_fall_to_the_normal_one():
    assert t_quantile(2) == 4.303 and t_quantile(30) == pytest.approx(2.042, abs=2e-3)
    assert t_quantile(10**6) == pytest.approx(1.96, abs=1e-3)


def test_the_measure_of_parameters_equals_the_published_figures():
    for score, trained, expected in ((68.92, 79_699, 68.90), (65.49, 87_878_739, 49.80), (61.48, 176_979, 61.43)):
        assert parameter_efficiency(score, trained) == pytest.approx(expected, abs=0.01)


def test_only_complete_lines_have_a_place_and_newer_results_replace_older():
    old = run([record("a", 0.9), record("b", 0.1)], "job_1")
    new = run([record("b", 0.7), record("a", 0.99, model="half")], "job_2")
    first, second = standings([old, new], ("a", "b"))
    assert (first.model, first.place, first.average) == ("m", 1, pytest.approx(0.8))
    assert [job for job, _ in first.cells] == ["job_1", "job_2"]
    assert (second.model, second.place, second.complete) == ("half", None, False)


def test_protocols_that_share_only_a_name_have_lines_of_their_own():
    probe = [record("a", 0.4), record("a", 0.6, shots=20)]
    lora = [replace(one, method="lora", score=0.9) for one in probe]
    lines = standings([run(probe, "job_1", "a"), run(lora, "job_2", "a")], ("a",))
    assert [(line.method, line.shots) for line in lines[2:]] == [("linear_probe", 20), ("linear_probe", 5)]
    assert len(growth(lines)) == 2


def test_sets_outside_of_the_average_are_shown_and_not_counted():
    board = run([record("a", 0.9), record("b", 0.1), record("b", 0.8, protocol="alone")])
    first, second = standings([board], ("a",), beside=("b",))
    assert (first.place, first.average) == (1, pytest.approx(0.9))
    assert [cell.dataset for _, cell in first.cells] == ["a", "b"]
    assert (second.protocol, second.place, second.average) == ("alone", None, pytest.approx(0.8))


def test_the_view_decides_the_order():
    heavy = [record(name, 0.8, protocol="full", trainable=90_000_000) for name in "ab"]
    light = [record(name, 0.7, protocol="probe", shots=20) for name in "ab"]
    board = run([*heavy, *light])
    orders = {
        view: [line.protocol for line in standings([board], "ab", view)] for view in ("score", "parameters", "shots")
    }
    assert orders == {"score": ["full", "probe"], "parameters": ["probe", "full"], "shots": ["full", "probe"]}


def test_curves_are_over_the_sets_that_all_points_share():
    lines = standings(
        [run([record("a", 0.2), record("b", 0.9), record("a", 0.6, shots=None), record("a", 0.4, shots=20)])], "ab"
    )
    [curve] = growth(lines)
    assert curve.points == ((5, 0.2), (20, 0.4), (None, 0.6))


def test_a_comparison_says_what_chance_explains():
    left = run([record(name, 0.50) for name in "abcdef"], datasets="abcdef")
    scores = dict(zip("abcdef", (0.9, 0.52, 0.51, 0.53, 0.55, 0.51), strict=True))
    right = run([record(name, score) for name, score in scores.items()], "job_2", datasets="abcdef")
    found = compare(left, right)
    assert [own.significant for own in found.differences] == [True, *[False] * 5]
    assert (found.wins, found.losses, found.p_signs) == (6, 0, pytest.approx(2 / 64))
    assert "1 of 6 differences" in found.note
    assert "not comparable" in compare(left, run([record()], mode="reference")).note
    assert compare(left, run([record("z")])).differences == ()
    assert sign_test(0, 0) is None and sign_test(3, 3) == 1.0


def test_runs_of_different_models_are_compared_by_protocol():
    found = compare(run([record(score=0.3, model="small")]), run([record(score=0.8, model="large")]))
    [own] = found.differences
    assert (own.left.model, own.right.model, own.difference) == ("small", "large", pytest.approx(0.5))


def result(records, datasets=("a",)):
    from dataclasses import asdict

    return {"datasets": list(datasets), "cells": [asdict(cell) for cell in cells(records)]}


def test_the_winner_is_the_best_adapted_and_of_equals_the_smaller():
    found = result([record(score=0.8, protocol="big", trainable=9), record(score=0.8, protocol="small", trainable=3)])
    assert winner_of("job_1", "benchmark", "succeeded", found, Choice()).protocol == "small"
    assert winner_of("job_1", "benchmark", "succeeded", found, Choice(protocol="big")).protocol == "big"


@pytest.mark.parametrize(
    ("kind", "state", "records", "datasets", "choice", "code"),
    [
        ("batch", "succeeded", [record()], "a", Choice(), "job-not-promotable"),
        ("benchmark", "running", [record()], "a", Choice(), "job-not-promotable"),
        ("benchmark", "succeeded", [record()], "ab", Choice(), "promotion-ambiguous"),
        ("benchmark", "succeeded", [record(shots=0)], "a", Choice(), "no-winner"),
        ("benchmark", "succeeded", [record()], "ab", Choice("c"), "no-winner"),
        ("benchmark", "succeeded", [record(score=0.4), record(score=0.9, shots=0)], "a", Choice(), "no-winner"),
    ],
)  # fmt: skip
def test_what_has_no_winner_says_so(kind, state, records, datasets, choice, code):
    with pytest.raises(Problem) as caught:
        winner_of("job_1", kind, state, result(records, datasets), choice)
    assert caught.value.code == code


def test_knowledge_files_of_the_toolkit_and_plain_ones_are_read():
    path = ["cat", "feline", "carnivore", "entity"]
    said = {"classname": "cat", "def_wiki": None, "path_wn": path, "def_wn": "a feline"}
    toolkit = json.dumps([said, {"classname": "cat", "gpt3": ["one", "two"]}])
    known = read_knowledge(toolkit, "f")["cat"]
    assert known == ClassKnowledge("", "a feline", ("cat", "feline", "carnivore", "entity"), ("one", "two"))
    assert pieces(known, "wordnet_hierarchy", 5) == ("cat feline carnivore",)
    assert pieces(known, "wiki_then_gpt3", 1) == ("one",) and pieces(known, "wiktionary", 5) == ()
    assert pieces_of_toolkit(known, "wiki_then_gpt3", 5) == pieces_of_toolkit(known, "wiktionary", 5) == (None,)
    assert pieces_of_toolkit(known, "wiki_and_gpt3", 1) == (None, "one")
    assert pieces_of_toolkit(ClassKnowledge(), "wordnet_definition", 5) == ("",)
    assert prompts("cat", ["a {}."], [None, ""]) == ["a cat.", "a cat. ; cat ,"]
    assert read_knowledge('{"cat": "a pet"}', "f")["cat"].sentences == ("a pet",)
    assert prompts("cat", ["a {}."], ["it purrs, softly"]) == ["a cat. ; cat , it purrs , softly"]
    assert prompts("cat", ["a {}.", "one {}"], []) == ["a cat.", "one cat"]
    for text, words in (("[", "not JSON"), ("3", "neither"), ('[{"name": "cat"}]', "entry 0")):
        with pytest.raises(Problem, match=words):
            read_knowledge(text, "f")
