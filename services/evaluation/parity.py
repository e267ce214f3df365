"""``sightline benchmark verify``: the toolkit against numbers that the reference implementation put out.

A folder holds any of ``elevater_metrics.json``, ``elevater_splits.json`` and ``elevater_hparam.json``. Every case of
them is run here; a case that cannot even be run fails with what was wrong about it.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.errors import ModelError
from services.datasets.splits import SplitError, few_shot, validation_split
from services.evaluation.tasks.classification.zero_shot import class_rows_of, zero_shot_probabilities
from services.finetuning.heads.head import Head, HeadConfig, Probe, probabilities, train_probe
from services.finetuning.search.grid import (
    COARSE,
    LEARNING_RATES,
    STEPS,
    WEIGHT_DECAYS,
    GridTrial,
    Trial,
    reference_search,
    run,
)
from services.metrics.classification import TOOLKIT, accuracy
from services.metrics.detection import coco_ap

FILES = ("elevater_metrics.json", "elevater_splits.json", "elevater_hparam.json")
HEAD_TOLERANCE = 2e-5
DEFAULT_TOLERANCE = {"metrics": 1e-9, "probs": 2e-5, "weights": 1e-4, "coco": 1e-9}

_UNFIT = (LookupError, TypeError, AttributeError, ValueError, AssertionError, ArithmeticError, RuntimeError)
"""What numbers that are missing, or of another form, end in."""

Document = dict[str, Any]
Check = Callable[[], str]
"""Runs a case; what it returns says what differed, and is empty when nothing did."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one file, and what differed from the reference (nothing, when it passed)."""

    file: str
    name: str
    difference: str = ""

    @property
    def ok(self) -> bool:
        return not self.difference


def verify(folder: Path) -> list[Case]:
    """Run every case below ``folder``. Raises :class:`ModelError` when there is no file, or one is no JSON."""
    found = [name for name in FILES if (folder / name).is_file()]
    if not found:
        raise ModelError(f"{folder} holds none of {', '.join(FILES)}", "name the folder that the fixtures are in")
    torch.set_num_threads(1)  # matrices this small are faster on one
    cases = []
    for name in found:
        try:
            document = json.loads((folder / name).read_text("utf-8"))
        except ValueError as error:
            raise ModelError(f"{folder / name} is not JSON: {error}", "copy the file again") from error
        cases += _cases(name, document)
    return cases


def _cases(file: str, document: Document) -> list[Case]:
    """The cases of a file; one that says why, where it has none or is of another form."""
    try:
        found = list(_READERS[file](document))
    except _UNFIT as error:
        return [Case(file, "the file", f"is not of the form of {file}: {type(error).__name__}: {error}")]
    if not found:
        return [Case(file, "the file", "holds no case, so nothing was compared")]
    return [Case(file, name, _outcome(check)) for name, check in found]


def _outcome(check: Check) -> str:
    try:
        with warnings.catch_warnings(action="ignore"):  # scikit-learn's on classes that do not occur
            return check()
    except _UNFIT as error:
        return f"cannot be run: {type(error).__name__}: {error}"


def _metrics(document: Document) -> Iterator[tuple[str, Check]]:
    tolerance = DEFAULT_TOLERANCE | document.get("tolerance", {})
    for case in document.get("cases", ()):
        yield str(case.get("id")), partial(_metric, case, tolerance["metrics"])
    if "zero_shot" in document:
        yield "zero_shot", partial(_zero_shot, document["zero_shot"], tolerance)
    for number, variant in enumerate(document.get("head", {}).get("variants", ())):
        name = f"head/{number} {variant.get('options')}"
        yield name, partial(_head, document, variant)
    for number, case in enumerate(document.get("linear_probe", {}).get("runs", ())):
        name = f"linear_probe/{number} lr {case.get('lr')} wd {case.get('wd')}"
        yield name, partial(_linear_probe, document, case, tolerance)
    if "coco_ap" in document:
        yield "coco_ap", partial(_coco, document["coco_ap"], tolerance["coco"])


def _metric(case: Document, tolerance: float) -> str:
    labels, scores = np.array(case["labels"]), np.array(case["scores"], np.float64)
    metric, expected = TOOLKIT[case["metric"]], case.get("expected_error")
    if expected and expected != "nan":
        try:
            value = metric(labels, scores)
        except (ValueError, IndexError):
            return ""
        return f"gave {value!r} where the reference refuses: {expected}"
    value = metric(labels, scores)
    if expected == "nan":
        return "" if math.isnan(value) else f"gave {value!r} instead of nan"
    return _far(value, case["expected"], tolerance)


def _zero_shot(case: Document, tolerance: Document) -> str:
    rows = class_rows_of(np.array(case["template_embeddings"], np.float64))
    probs = zero_shot_probabilities(np.array(case["image_features"], np.float64), rows)
    value = accuracy(np.array(case["labels"]), probs)
    return (
        _far(rows.T, case["class_weights"], tolerance["probs"], "class weights")
        or _far(probs, case["probs"], tolerance["probs"], "probabilities")
        or _far(value, case["accuracy"], tolerance["metrics"], "accuracy")
    )


def _config(options: Document) -> HeadConfig:
    return HeadConfig(
        channel_bn=options.get("USE_CHANNEL_BN", True),
        normalize=options.get("NORMALIZE_VISUAL_FEATURE", False),
        logit_scale=options.get("LOGIT_SCALE_INIT", "none"),
    )


def _text_rows(document: Document) -> torch.Tensor:
    return torch.tensor(document["zero_shot"]["class_weights"]).T


def _head(document: Document, variant: Document) -> str:
    features, rows = torch.tensor(document["head"]["features"]), _text_rows(document)
    head = Head(features.shape[1], len(rows), _config(variant["options"]), rows).eval()
    trainable = sum(parameter.numel() for parameter in head.parameters())
    if trainable != variant["trainable"]:
        return f"{trainable} trainable parameters, {variant['trainable']} expected"
    different = _far(head.logit_scale.item(), variant["logit_scale"], HEAD_TOLERANCE, "logit scale")
    for training, name in ((False, "eval_fresh"), (True, "train_mode"), (False, "eval_after_one_train_forward")):
        head.train(training)
        with torch.no_grad():
            logits = head(features).numpy()
        different = different or _far(logits, variant[name], HEAD_TOLERANCE, name, relative=1e-4)
    return different


def _linear_probe(document: Document, case: Document, tolerance: Document) -> str:
    own, rows = document["linear_probe"], _text_rows(document)
    features, labels = torch.tensor(own["train_features"]), torch.tensor(own["train_labels"])
    held_out, targets = torch.tensor(document["head"]["features"]), np.array(document["head"]["labels"])
    head = Head(features.shape[1], len(rows), _config(case["options"]), rows)
    probe = Probe(case["lr"], case["wd"], case["epochs"], batch_size=len(features))

    def score(probs: torch.Tensor) -> float:
        return 100 * accuracy(targets, probs.double().numpy())

    trainable = sum(parameter.numel() for parameter in head.parameters())
    if trainable != case.get("n_trainable_params", trainable):
        return f"{trainable} trainable parameters, {case['n_trainable_params']} expected"
    metrics, best, best_probs, different = [], -1.0, np.empty(0), ""
    for epoch, row in zip(
        train_probe(head, features, labels, probe, score=score, validation=held_out), case["epochs_log"], strict=True
    ):
        metrics.append(epoch.metric)
        weight, bias = head.linear.weight.detach(), head.linear.bias.detach()
        for name, kept, off in (("weight_sum", weight.double().sum(), weight.numel()), ("bias", bias, 1)):
            if name in row:
                what = f"{name} of epoch {epoch.number}"
                different = different or _far(kept.numpy(), row[name], off * tolerance["weights"], what)
        if epoch.metric > best:
            best, best_probs = epoch.metric, probabilities(head, held_out).numpy()
    for name in ("running_mean", "running_var"):
        if f"bn_{name}" in case and isinstance(head.channel_bn, nn.BatchNorm1d):
            statistics = getattr(head.channel_bn, name).numpy()
            different = different or _far(statistics, case[f"bn_{name}"], tolerance["weights"], f"{name} of the norm")
    return (
        different
        or _far(np.array(metrics), [row["val_metric"] for row in case["epochs_log"]], 1e-6, "metric of the epochs")
        or _far(best, case["best_metric"], 1e-6, "best metric")
        or _far(head.linear.weight.detach().numpy(), case["final_weight"], tolerance["weights"], "weight")
        or _far(head.linear.bias.detach().numpy(), case["final_bias"], tolerance["weights"], "bias")
        or _far(best_probs, case["best_probs"], tolerance["probs"], "best probabilities")
    )


def _coco(case: Document, tolerance: float) -> str:
    scores = coco_ap(case["gt"], case["dt"])
    different = ""
    for name, expected in zip(case["stat_names"], case["stats"], strict=True):
        different = different or _far(scores.statistics[name], expected, tolerance, name)
    for name, expected in case["per_class_AP"].items():
        own, none = scores.categories[name], expected is None or not 0 <= expected <= 1
        if not (none and math.isnan(own)):  # a category without a box: nan here; null, nan or -1 there
            different = different or _far(own, expected, tolerance, f"AP of {name}")
    return different


def _splits(document: Document) -> Iterator[tuple[str, Check]]:
    labels = {row["name"]: row["labels"] for row in document["rows"] if row.get("labels") is not None}
    for row in document["rows"]:
        name = f"{row['name']}/{row['shots']}-shot seed {row['seed']}"
        yield name, partial(_split, row, labels)


def _split(row: Document, named: Mapping[str, list[list[int]]]) -> str:
    labels = named[row.get("labels_ref") or row["name"]]
    chosen = few_shot(labels, row["num_classes"], row["shots"], row["seed"])
    if chosen != row["selected"]:
        return f"chose {chosen[:8]}..., the reference {row['selected'][:8]}..."
    try:
        train, validation = validation_split([labels[index] for index in chosen], row["num_classes"])
    except SplitError as error:
        return "" if row["train_positions"] is None else f"refused a split that the reference makes: {error}"
    if row["train_positions"] is None:
        return "made a split that the reference cannot make"
    same = train == row["train_positions"] and validation == sorted(row["val_positions"])
    return "" if same else f"validation {validation[:8]}..., the reference {sorted(row['val_positions'])[:8]}..."


def _hparam(document: Document) -> Iterator[tuple[str, Check]]:
    grid = document.get("grid", {})
    if "lr" in grid:
        yield "grid/lr", partial(_far, np.array(LEARNING_RATES), grid["lr"], 0.0, relative=1e-12)
    if "wd" in grid:
        yield "grid/wd", partial(_far, np.array(WEIGHT_DECAYS), grid["wd"], 0.0, relative=1e-12)
    shape = {"wd_points": len(WEIGHT_DECAYS), "initial_wd_indices": list(COARSE), "steps": list(STEPS)}
    for name in [name for name in shape if name in grid]:
        yield f"grid/{name}", partial(_far, shape[name], grid[name], 0.0)
    for case in document.get("runs", ()):
        yield f"search/{case['name']}", partial(_search, case)


def _search(case: Document) -> str:
    tried: list[tuple[int, int]] = []
    lowest = round(math.log10(LEARNING_RATES[0]))

    def score(trial: Trial) -> float:
        assert isinstance(trial, GridTrial)
        place = (trial.lr_index + lowest, trial.wd_index)
        if len(tried) == len(case["tried"]) or list(place) != list(case["tried"][len(tried)][:2]):
            expected = case["tried"][len(tried)][:2] if len(tried) < len(case["tried"]) else "no further trial"
            raise ValueError(f"trial {len(tried)} is {list(place)}, the reference has {expected}")
        given = case["tried"][len(tried)][2]
        tried.append(place)
        return 0.0 if given is None or isinstance(given, str) else float(given)

    best = run(reference_search(search_left=bool(case.get("wd_search_left"))), score)
    if len(tried) != len(case["tried"]):
        return f"stopped after {len(tried)} trials, the reference after {len(case['tried'])}"
    if best.trials != case.get("n_trials", best.trials):
        return f"counts {best.trials} trials, the reference {case['n_trials']}"
    place = WEIGHT_DECAYS.index(best.weight_decay) if best.weight_decay in WEIGHT_DECAYS else None
    if place != case.get("final_wd_index", place):
        return f"weight decay has place {place} in its grid, {case['final_wd_index']} expected"
    return _far(best.learning_rate, case["final_lr"], 0.0, "learning rate", relative=1e-12) or _far(
        best.weight_decay, case["final_wd"], 0.0, "weight decay", relative=1e-12
    )


_READERS: dict[str, Callable[[Document], Iterator[tuple[str, Check]]]] = {
    "elevater_metrics.json": _metrics,
    "elevater_splits.json": _splits,
    "elevater_hparam.json": _hparam,
}


def _far(value: Any, expected: Any, tolerance: float, what: str = "value", *, relative: float = 0.0) -> str:
    """Empty when ``value`` lies within the tolerance of ``expected`` everywhere; otherwise the largest difference."""
    mine, theirs = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    if mine.shape != theirs.shape:
        return f"{what} has the shape {mine.shape}, expected {theirs.shape}"
    gap = np.abs(mine - theirs)
    if bool(np.all(gap <= tolerance + relative * np.abs(theirs))):  # NaN does not pass
        return ""
    place = np.unravel_index(int(np.nanargmax(gap)) if not np.all(np.isnan(gap)) else 0, gap.shape) if gap.ndim else ()
    return f"{what} is {float(mine[place]):.12g}, expected {float(theirs[place]):.12g} (within {tolerance:g})"
