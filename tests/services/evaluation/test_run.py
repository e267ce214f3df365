"""A benchmark job measures every unit of its plan, keeps each trial, says what could not be run, and leaves reports."""

import csv
import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from models.catalog.card import Pipeline
from services.datasets.package import Stored
from services.datasets.samples import Sample
from services.errors import Problem
from services.evaluation import run as jobs
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import search_of
from services.evaluation.promotion_kind import PromoteParameters
from services.evaluation.reports import recording
from services.evaluation.suites.registry import SuiteSet
from services.evaluation.tasks.classification import adapting
from services.evaluation.tasks.classification.adapting import Data, reference
from services.evaluation.tasks.classification.draws import Draws
from services.finetuning.data.examples import Examples
from services.finetuning.heads.normalisation import fitted_rows
from services.finetuning.heads.recipe import Recipe
from services.finetuning.training import fitting
from services.finetuning.training.hooks import Hooks
from services.jobs.events import after
from services.jobs.records import Order
from tests.services.evaluation.conftest import COLOURS, OWNER
from tests.support import tiny_encoders, tiny_models
from tests.support.jobs import kinds, run_job

FIXED = {"learning_rate": 0.1, "weight_decay": 1e-4, "epochs": 10}


def finish(services, job):
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    return ended


def outputs(services, job):
    return {made.name: b"".join(services.artifacts.read(made)) for made in services.artifacts.of_job(job.id)}


def test_models_times_protocols_times_seeds_are_measured_and_reported(services, colours, submit):
    protocols = ["zero-shot", "linear-probe", "linear-probe-language"]
    ended = finish(services, submit(protocols=protocols, shots=[4, "full"], seeds=[0, 1], predictions=True, **FIXED))
    cells = {(cell["protocol"], cell["shots"]): cell for cell in ended.result["cells"]}
    assert set(cells) == {
        ("zero-shot", 0), ("linear-probe", 4), ("linear-probe", None),
        ("linear-probe-language", 4), ("linear-probe-language", None),
    }  # fmt: skip
    few = cells["linear-probe", 4]
    assert few["mean"] > 0.9 and few["seeds"] == [0, 1] and few["trainable"] == 3 * tiny_models.FEATURES + 3
    assert cells["linear-probe", None]["seeds"] == [0] and cells["linear-probe", None]["low"] is None
    assert few["low"] <= few["mean"] <= few["high"]
    made = outputs(services, ended)
    document = json.loads(made["results.json"])
    assert document["suite"] == "dataset:colours" and document["versions"]["torch"]
    assert len(document["datasets"]["colours"]["sha256"]) == 64
    assert len(document["units"]) == ended.result["units"] == 7 and ended.result["failed"] == 0
    rows = list(csv.DictReader(io.StringIO(made["results.csv"].decode())))
    assert [row["shots"] for row in rows].count("full") == 2
    for name in ("shots.png", "parameters.png", "datasets.png"):
        assert made[name].startswith(b"\x89PNG")
    with zipfile.ZipFile(io.BytesIO(made["submission-tiny-open-linear-probe-4.zip"])) as bundle:
        [entry] = json.loads(bundle.read("all_predictions.json"))["data"]
    assert np.array(entry["predictions"]).shape == (2, 24, 3)
    assert np.allclose(np.sum(entry["predictions"], axis=2), 1, atol=1e-3)
    assert entry["rnd_seeds"] == [0, 1] and entry["n_shot"] == 4 and entry["num_trainable_params"] == few["trainable"]


def test_a_unit_that_cannot_be_run_says_why_and_the_others_go_on(services, colours, submit):
    ended = finish(services, submit(protocols=["zero-shot", "linear-probe"], shots=[4, 13], **FIXED))
    assert [cell["shots"] for cell in ended.result["cells"]] == [0, 4]
    [error] = ended.result["errors"]
    assert error["code"] == "too-few-images" and "'green car' (12)" in error["detail"]
    assert "too-few-images" in outputs(services, ended)["results.csv"].decode()


def test_a_job_of_which_nothing_could_be_run_fails_with_the_first_reason(services, colours, submit):
    job = submit(protocols=["linear-probe"], shots=[13])
    assert run_job(services, job.id) == "failed"
    assert services.jobs.get(OWNER, job.id).error["code"] == "too-few-images"


def test_a_strategy_that_needs_a_network_says_so_of_a_model_that_is_only_a_file(services, colours, submit):
    ended = finish(services, submit(protocols=["zero-shot", "full-language"], **FIXED))
    assert ended.result["errors"][0]["code"] == "encoder-not-trainable"


@pytest.mark.parametrize("mode", ["strict", "reference"])
def test_strategies_that_train_the_encoder_are_measured_by_what_they_train(services, colours, submit, mode):
    tiny_encoders.install(services.settings.models_dir, "vit", "tiny-vit")
    ways = [{"name": name, "method": name} for name in ("linear_probe", "bitfit", "kadaptation")]
    fixed = FIXED | {"learning_rate": 0.01, "epochs": 3}
    ended = finish(services, submit(models=["tiny-vit"], protocols=ways, mode=mode, **fixed))
    assert ended.result["errors"] == []
    trained = {cell["protocol"]: cell["trainable"] for cell in ended.result["cells"]}
    assert trained["linear_probe"] == 3 * 32 + 3
    assert trained["linear_probe"] < trained["kadaptation"] and trained["linear_probe"] < trained["bitfit"]


def test_an_encoder_without_language_is_measured_from_random_weights_only(services, colours, submit):
    tiny_models.add_classifier(services.settings.models_dir, "tiny-mute", seed=1)
    protocols = ["zero-shot", "linear-probe", "linear-probe-language"]
    ended = finish(services, submit(models=["tiny-mute"], protocols=protocols, **FIXED))
    assert [cell["protocol"] for cell in ended.result["cells"]] == ["linear-probe"]
    assert {error["code"] for error in ended.result["errors"]} == {"no-language-model"}


def test_budgets_end_a_search_and_skip_what_has_not_begun(services, colours, submit):
    ended = finish(services, submit(protocols=["linear-probe"], max_trials=5))
    [unit] = json.loads(outputs(services, ended)["results.json"])["units"]
    assert unit["trials"] == 5
    assert (unit["notes"]["encoder_passes"], unit["notes"]["reference_encoder_passes"]) == (36, 5 * 10 * 12 + 50 * 36)
    job = submit(protocols=["linear-probe"], max_seconds=1e-6)
    assert run_job(services, job.id) == "failed"
    assert services.jobs.get(OWNER, job.id).error["code"] == "time-budget"


def test_the_reference_way_takes_the_best_epoch_on_the_test_images_and_tells_the_last(services, colours, submit):
    ended = finish(services, submit(protocols=["linear-probe"], mode="reference", shots=[1, 4], **FIXED))
    one, four = json.loads(outputs(services, ended)["results.json"])["units"]
    assert one["trained_on"] == 6 and four["trained_on"] == 12  # one shot is made two, as in the toolkit
    assert one["notes"]["last_epoch"] <= one["score"] and ended.result["mode"] == "reference"


def test_knowledge_changes_the_prompts(services, colours, submit):
    said = {"red cat": ["a cat that is red"], "green car": "a car", "old dog": ["a dog", "a dog of old"]}
    with services.artifacts.draft() as draft:
        draft.write(json.dumps(said).encode())
        stored = services.artifacts.add(draft, OWNER, "said.json", "application/json")
    names = ["zero-shot", "zero-shot-gpt3", "linear-probe-language"]
    ended = finish(services, submit(protocols=names, knowledge=f"artifact:{stored.id}", predictions=True, **FIXED))
    made = outputs(services, ended)
    assert made["probabilities-00000.safetensors"] != made["probabilities-00001.safetensors"]
    assert len(ended.result["cells"]) == 3


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"suite": "no-such"}, "suite-unknown", "/parameters/suite"),
        ({"suite": "dataset:no-such"}, "dataset-not-found", "/parameters/suite"),
        ({"suite": "odinw35"}, "model-does-not-detect", "/parameters/models/0"),
        ({"suite": "pocket", "datasets": ["digits", "cars"]}, "suite-dataset-unknown", "/parameters/datasets/1"),
        ({"models": ["tiny-open", "no-such"]}, "model-not-found", "/parameters/models/1"),
        ({"models": ["tiny-tower"]}, "model-embeds-no-image", "/parameters/models/0"),
        ({"protocols": ["no-such"]}, "protocol-unknown", "/parameters/protocols"),
        ({"protocols": [{"name": "mine", "method": "no_such"}]}, "strategy-unknown", "/parameters/protocols"),
        ({"metric": "roc_auc"}, "metric-misfit", "/parameters/metric"),
        ({"metric": "coco_ap"}, "metric-misfit", "/parameters/metric"),
        ({"knowledge": "artifact:art_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"}, "artifact-not-found", "/parameters/knowledge"),
        ({"learning_rate": 0.1}, "hyper-parameters", "/parameters/learning_rate"),
        ({"templates": ["a {}", "a photo"]}, "template-invalid", "/parameters/templates/1"),
        ({"suite": "pocket", "templates": ["a {}"]}, "templates-misfit", "/parameters/templates"),
        ({"protocols": ["zero-shot", "zero-shot-gpt3"]}, "knowledge-missing", "/parameters/knowledge"),
        ({"suite": "pocket", "protocols": ["zero-shot-wiktionary"]}, "knowledge-missing", "/parameters/knowledge"),
        ({"protocols": ["linear-probe", {"name": "linear-probe", "method": "full"}]}, "protocol-twice",
         "/parameters/protocols/1"),
        ({"seeds": list(range(50)), "shots": list(range(1, 21)), "models": ["tiny-open", "tiny-classifier"],
          "protocols": [{"name": f"p{n}", "method": "linear_probe"} for n in range(11)]},
         "benchmark-too-large", "/parameters"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_refused_when_it_is_submitted(services, colours, submit, fields, code, pointer):
    with pytest.raises(Problem) as caught:
        submit(**fields)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_the_winner_becomes_a_model_with_its_card(services, colours, submit):
    job = finish(services, submit(protocols=["zero-shot", "linear-probe"], seeds=[0, 1], **FIXED))
    parameters = PromoteParameters(benchmark=job.id, name="my-colours")
    kind = kinds(services)["promote"]
    kind.check(services, OWNER, parameters)
    promoted = services.jobs.submit(OWNER, Order("promote", kind.queue, parameters.model_dump()), max_queued=10)[0]
    ended = finish(services, promoted)
    assert (ended.result["model"], ended.result["protocol"]) == ("my-colours", "linear-probe")
    assert ended.result["scores"]["test accuracy"] > 0.9
    labels = (services.settings.models_dir / "my-colours" / "1" / "labels.txt").read_text().splitlines()
    assert sorted(labels) == sorted(COLOURS)


def test_a_suites_winner_is_promoted_too(services, submit):
    job = finish(services, submit(suite="pocket", datasets=["faces"], protocols=["linear-probe"], shots=[20], **FIXED))
    kind = kinds(services)["promote"]
    parameters = PromoteParameters(benchmark=job.id, name="face-or-not")
    order = Order("promote", kind.queue, parameters.model_dump())
    ended = finish(services, services.jobs.submit(OWNER, order, max_queued=10)[0])
    assert ended.result["classes"] == 2 and "face-or-not" in ended.result["model"]


def test_rows_for_names_give_the_same_scores_behind_normalised_channels():
    rng = np.random.default_rng(0)
    features = rng.normal(0, (0.1, 1, 5, 2), (50, 4)).astype(np.float32)
    rows = np.eye(4, dtype=np.float32)[:2]
    scaled = fitted_rows(rows + 0.1, features)
    behind = ((features - features.mean(axis=0)) / features.std(axis=0)) @ scaled.T
    plain = (features - features.mean(axis=0)) @ (rows + 0.1).T
    ratio = behind / plain
    assert np.allclose(ratio, ratio[0], rtol=1e-3) and np.allclose(np.linalg.norm(scaled, axis=1), 1)


def test_a_second_open_model_over_an_encoder_can_be_measured_beside_the_first(services, colours, submit):
    root = services.settings.models_dir
    pipeline = Pipeline(
        kind="dual-encoder", image_model="tiny-classifier", text_model="tiny-tower", parameters={"templates": ["{}"]}
    )
    tiny_models.write(root, tiny_models.card("tiny-second", task="zero-shot-classify", pipeline=pipeline), {})
    ended = finish(services, submit(models=["tiny-open", "tiny-second"], protocols=["zero-shot"]))
    assert [cell["model"] for cell in ended.result["cells"]] == ["tiny-open", "tiny-second"]


def test_progress_tells_the_epochs_of_trials_and_of_the_last_training(services, colours, submit, monkeypatch):
    monkeypatch.setattr(jobs, "TELL", 0.0)
    for mode in ("strict", "reference"):
        ended = finish(services, submit(protocols=["linear-probe"], max_trials=2, epochs=3, mode=mode))
        told = [event.data for event in after(services.engine, ended.id, 0)]
        told = [data for data in told if "epoch" in data.get("metrics", {})]
        assert {1.0, 2.0, 3.0} <= {one["metrics"]["epoch"] for one in told}
        assert all(one["metrics"]["loss"] > 0 for one in told)
        assert any("epoch_score" in one["metrics"] for one in told)


@pytest.mark.parametrize("mode", ["strict", "reference"])
def test_the_time_budget_ends_a_search_that_is_under_way(services, colours, submit, monkeypatch, mode):
    """Time is told by trials here: each takes ten seconds of the sixty, of which a search may have half."""
    now = [0.0]
    for module in (jobs, recording, adapting, fitting):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    scored = jobs._Benchmark._save

    def passing(self):
        now[0] += 10
        scored(self)

    monkeypatch.setattr(jobs._Benchmark, "_save", passing)
    ended = finish(services, submit(protocols=["linear-probe"], max_seconds=60, epochs=2, mode=mode))
    document = json.loads(outputs(services, ended)["results.json"])
    assert [unit["trials"] for unit in document["units"]] == [3]


def test_images_without_a_label_are_left_out_of_a_set_with_one_label_an_image():
    kept = [
        Stored(Sample(f"{number}.png", "train", own), f"{number}.png", 8, 8)
        for number, own in enumerate([(0,), (), (1,)])
    ]
    package = SimpleNamespace(split=lambda name: kept)
    spec = {"name": "partly", "classes": ["a", "b"]}
    one = SuiteSet(task="classification", metric="accuracy", **spec)
    assert Draws(package, one, reference=False, test_limit=None).labels == [(0,), (1,)]
    several = SuiteSet(task="multilabel", metric="11point_mAP", **spec)
    assert len(Draws(package, several, reference=False, test_limit=None).test) == 3


def test_the_last_training_of_the_reference_keeps_the_order_of_the_set():
    """Its loader shuffles the whole set by its place there: another order would make other batches."""
    seen = []
    labels = [[0], [1]] * 5
    features = np.arange(10, dtype=np.float32)[:, None].repeat(3, axis=1)
    data = Data(Examples(features, labels), None, Examples(features[:4], labels[:4]))
    recipe = Recipe(classes=2, learning_rate=0.1, weight_decay=0.0, epochs=1, batch_size=10)

    def kept(model, inputs, *rest, **named):
        seen.append(inputs[:, 0].tolist())
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapting, "train_probe", kept)
        reference(data, recipe, Hooks())
    assert seen == [list(range(10))]


@pytest.mark.parametrize(
    ("asked", "trains", "search"),
    [
        ({}, False, ("reference", None)),
        ({}, True, ("optuna", 8)),
        ({"max_trials": 5}, False, ("optuna", 5)),
        ({"max_trials": 90}, False, ("reference", 90)),
        ({"max_trials": 5, "search": "reference"}, False, ("reference", 5)),
        ({"max_trials": 5, "mode": "reference"}, True, ("reference", 5)),
        ({"search": "optuna"}, False, ("optuna", None)),
    ],
)
def test_few_trials_are_not_spent_on_the_smallest_learning_rate(asked, trains, search):
    assert search_of(BenchmarkParameters(models=["any"], **asked), trains) == search
