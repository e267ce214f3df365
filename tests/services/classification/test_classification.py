"""Classification finds the model and the labels, scores every picture, and says what is wrong with a request."""

import shutil

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline, TextPreprocess
from services.classification import Classification, ClassifyRequest, dual_encoder
from services.classification.scores import best
from services.encoding import class_rows
from services.encoding.images import unit
from services.encoding.templates import named
from services.encoding.texts import TextEncoder
from services.errors import Kind, Problem
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.stages import Stages
from tests.support import tiny_models


def picture(seed=0, size=(48, 40)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Picture(Image.fromarray(pixels), *size, "PNG")


def add_dual_encoder(root, **parameters):
    """The tiny classifier's features and a text tower of their width, behind the name tiny-open."""
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=32), "roles": {"embedding": "embedding"}}
    tiny_models.write(
        root,
        tiny_models.card("tiny-tower", tower, **text),
        {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()},
    )
    pipeline = Pipeline(
        kind="dual-encoder", image_model="tiny-classifier", text_model="tiny-tower", parameters=parameters
    )
    tiny_models.write(root, tiny_models.card("tiny-open", task="zero-shot-classify", pipeline=pipeline), {})


@pytest.fixture
async def backend(settings, repository):
    add_dual_encoder(repository, scale=20.0, none_logit=1.5, templates=["a photo of a {}.", "the {}"])
    engine = OnnxBackend(settings)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def service(backend, settings):
    return Classification(backend, settings)


async def classify(service, pictures, model, **fields):
    with await service._backend.resolve(model) as handle:
        return await service.classify(handle, ClassifyRequest(pictures, **fields), Options.within(30), Stages())


async def code(service, **fields):
    with pytest.raises(Problem) as caught:
        await classify(service, [picture()], **fields)
    return caught.value.code, caught.value.pointer


async def test_a_closed_set_answers_from_its_own_labels(service, backend):
    pictures = [picture(seed) for seed in range(3)]
    answer = await classify(service, pictures, model="tiny-classifier", top_k=2)
    card = (await backend.resolve("tiny-classifier")).card
    pixels = Preprocessor(card.image).batch(pictures)
    logits = (await backend.infer("tiny-classifier", {"image": pixels})).outputs["logits"]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert (answer.model, answer.version) == ("tiny-classifier", "1")
    for index, result in enumerate(answer.results):
        assert (result.index, result.width, result.height, result.none_of_these) == (index, 48, 40, None)
        order = np.argsort(-scores[index])[:2]
        assert [one.label for one in result.predictions] == [tiny_models.LABELS[i] for i in order]
        assert [one.score for one in result.predictions] == pytest.approx(scores[index][order], rel=1e-4)


async def test_more_pictures_than_a_batch_are_answered_in_order(service, backend):
    many = [picture(seed) for seed in range(40)]
    whole = await classify(service, many, model="tiny-classifier")
    alone = await classify(service, [many[33]], model="tiny-classifier")
    assert whole.results[33].predictions == alone.results[0].predictions
    assert [result.index for result in whole.results] == list(range(40))


async def test_labels_narrow_a_closed_set(service):
    answer = await classify(service, [picture()], model="tiny-classifier", labels=["dog", "car"])
    predictions = answer.results[0].predictions
    assert {one.label for one in predictions} == {"dog", "car"}
    assert sum(one.score for one in predictions) == pytest.approx(1.0)


async def test_multi_label_scores_each_label_by_itself_and_a_threshold_cuts(service):
    answer = await classify(service, [picture()], model="tiny-classifier", multi_label=True)
    scores = [one.score for one in answer.results[0].predictions]
    assert sum(scores) != pytest.approx(1.0)
    cut = await classify(service, [picture()], model="tiny-classifier", multi_label=True, threshold=scores[1])
    assert [one.score for one in cut.results[0].predictions] == scores[:2]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"labels": []}, ("labels-empty", "/labels")),
        ({"labels": ["dog", " "]}, ("label-empty", "/labels/1")),
        ({"labels": ["dog", "car", "dog"]}, ("label-duplicate", "/labels/2")),
        ({"labels": ["d\0g"]}, ("label-invalid", "/labels/0")),
        ({"labels": ["x" * 9000]}, ("label-too-long", "/labels/0")),
        ({"labels": [str(n) for n in range(10_001)]}, ("labels-too-many", "/labels")),
        ({"labels": ["dog", "unicorn"]}, ("label-not-in-set", "/labels/1")),
        ({"label_set": "no-such-set"}, ("label-set-unknown", "/label_set")),
        ({"explain": True}, ("explain-unsupported", "/explain")),
        ({"model": "tiny-text"}, ("model-does-not-classify", "/model")),
        ({"model": "no-such-model"}, ("model-not-found", None)),
    ],
)
async def test_what_is_wrong_is_named_with_its_place(service, fields, expected):
    assert await code(service, **{"model": "tiny-classifier", **fields}) == expected


async def test_a_model_whose_folder_is_gone_before_its_labels_were_read_is_not_a_bug(service, settings):
    folder = settings.models_dir / "tiny-classifier" / "1"
    shutil.move(folder, settings.data_dir / "elsewhere")
    with pytest.raises(Problem) as caught:
        await classify(service, [picture()], model="tiny-classifier")
    assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "model-file-unreadable")
    assert caught.value.detail == "labels.txt of 'tiny-classifier': No such file or directory."


async def test_open_labels_are_scored_by_the_mean_of_their_templates(service, backend):
    labels = ["red cat", "old car"]
    answer = await classify(service, [picture()], model="tiny-open", labels=labels)
    result = answer.results[0]
    assert (answer.model, {one.label for one in result.predictions}) == ("tiny-open", set(labels))
    text = TextEncoder(await backend.resolve("tiny-tower"))
    rows = []
    for label in labels:
        own = unit(await text.encode([f"a photo of a {label}.", f"the {label}"]))
        rows.append(unit(own.mean(axis=0)))
    card = (await backend.resolve("tiny-classifier")).card
    pixels = Preprocessor(card.image).batch([picture()])
    feature = unit((await backend.infer("tiny-classifier", {"image": pixels})).outputs["features"])[0]
    logits = 20.0 * np.array([feature @ row for row in rows])
    scores = np.exp(logits) / np.exp(logits).sum()
    assert {one.label: one.score for one in result.predictions} == pytest.approx(
        dict(zip(labels, scores, strict=True)), rel=1e-3
    )
    assert result.none_of_these == pytest.approx(1 / (1 + np.exp(logits.max() - 1.5)), rel=1e-3)


async def test_a_repeated_label_set_costs_no_text_inference(service, backend):
    before = backend.statistics("tiny-tower", "1").inference_count
    await classify(service, [picture()], model="tiny-open", labels=["cat", "dog"])
    once = backend.statistics("tiny-tower", "1").inference_count
    await classify(service, [picture(1)], model="tiny-open", labels=["cat", "dog"])
    assert before < once == backend.statistics("tiny-tower", "1").inference_count
    await classify(service, [picture(1)], model="tiny-open", labels=["cat", "dog"], templates=["old {}"])
    assert backend.statistics("tiny-tower", "1").inference_count > once


async def test_a_label_set_too_long_for_one_request_is_ready_after_a_few(service, backend, monkeypatch):
    labels = [f"cat {number}" for number in range(300)]
    tower, calls = await backend.resolve("tiny-tower"), 0
    infer = tower.infer

    async def infer_until_the_queue_is_full(*arguments):
        nonlocal calls
        calls += 1
        if calls == 33:
            raise Problem(Kind.TOO_MANY, "queue-full", "Full")
        return await infer(*arguments)

    monkeypatch.setattr(tower, "infer", infer_until_the_queue_is_full)
    assert await code(service, model="tiny-open", labels=labels) == ("queue-full", None)
    calls = 100
    await classify(service, [picture()], model="tiny-open", labels=labels)
    assert calls - 100 <= 10  # of 38 batches: the two templates make 600 texts


async def test_a_large_label_set_is_built_once_for_all_processes_and_starts(service, backend, settings):
    labels = [f"cat {number}" for number in range(200)]  # times two templates
    first = await classify(service, [picture()], model="tiny-open", labels=labels)
    built = backend.statistics("tiny-tower", "1").inference_count
    again = await classify(Classification(backend, settings), [picture()], model="tiny-open", labels=labels)
    assert again.results[0].predictions == first.results[0].predictions
    assert backend.statistics("tiny-tower", "1").inference_count == built
    kept = list((settings.cache_dir / "class-rows").iterdir())
    assert [path.suffix for path in kept] == [".safetensors"]
    kept[0].write_bytes(b"torn")
    torn = await classify(Classification(backend, settings), [picture()], model="tiny-open", labels=labels)
    assert torn.results[0].predictions == first.results[0].predictions
    assert backend.statistics("tiny-tower", "1").inference_count > built
    await classify(service, [picture()], model="tiny-open", labels=["cat", "dog"])
    assert len(list((settings.cache_dir / "class-rows").iterdir())) == 1  # two labels are no set worth keeping


async def test_a_request_out_of_time_leaves_what_it_had_built(backend, settings, monkeypatch):
    monkeypatch.setattr(class_rows, "PART_TEXTS", 100)
    labels = [f"cat {number}" for number in range(300)]
    slow = Classification(backend, settings)
    rows = dual_encoder.DualEncoder.rows
    asked = []

    async def rows_until_the_third(self, some, *rest):
        asked.append(some)
        if len(asked) == 3:
            raise Problem(Kind.DEADLINE, "deadline-exceeded", "Deadline exceeded")
        return await rows(self, some, *rest)

    monkeypatch.setattr(dual_encoder.DualEncoder, "rows", rows_until_the_third)
    with pytest.raises(Problem) as caught:
        await classify(slow, [picture()], model="tiny-open", labels=labels)
    assert caught.value.kind is Kind.DEADLINE and "Ask again" in caught.value.remedy
    again = await classify(Classification(backend, settings), [picture()], model="tiny-open", labels=labels)
    assert [some[0] for some in asked] == ["cat 0", "cat 50", "cat 100", *(f"cat {n}" for n in range(100, 300, 50))]
    assert len(list((settings.cache_dir / "class-rows").iterdir())) == 1  # the parts are joined
    monkeypatch.setattr(dual_encoder.DualEncoder, "rows", rows)
    whole = await classify(
        Classification(backend, settings.model_copy(update={"text_disk_cache_bytes": 0})),
        [picture()],
        model="tiny-open",
        labels=labels,
    )
    assert [one.label for one in whole.results[0].predictions] == [one.label for one in again.results[0].predictions]
    assert [one.score for one in whole.results[0].predictions] == pytest.approx(
        [one.score for one in again.results[0].predictions], rel=1e-4
    )


async def test_templates_may_be_named(service, backend):
    labels = ["red cat", "old car"]
    by_name = await classify(service, [picture()], model="tiny-open", labels=labels, template_set="imagenet-81")
    sent = named("imagenet-81")
    assert len(sent) == 81 and sent[0] == "a bad photo of a {}."
    by_text = await classify(service, [picture()], model="tiny-open", labels=labels, templates=sent)
    assert by_name.results[0].predictions == by_text.results[0].predictions
    assert await code(service, model="tiny-open", labels=labels, template_set="no-such") == (
        "template-set-unknown",
        "/template_set",
    )


async def test_a_newer_text_tower_and_its_rows_come_when_the_pair_is_loaded_again(service, backend, settings):
    labels = ["red cat", "old car"]
    before = await classify(service, [picture()], model="tiny-open", labels=labels)
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES, seed=9)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=32), "roles": {"embedding": "embedding"}}
    newer = tiny_models.card("tiny-tower", tower, **text).model_copy(update={"version": "2"})
    tiny_models.write(settings.models_dir, newer, {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()})
    await backend.load("tiny-tower")
    between = await classify(service, [picture()], model="tiny-open", labels=labels)
    assert between.results[0].predictions == before.results[0].predictions
    await backend.load("tiny-open")
    after = await classify(service, [picture()], model="tiny-open", labels=labels)
    assert after.results[0].predictions != before.results[0].predictions


async def test_an_open_model_needs_labels(service):
    assert await code(service, model="tiny-open") == ("labels-missing", "/labels")
    assert await code(service, model="tiny-open", labels=["cat"], templates=["no slot"]) == (
        "template-invalid",
        "/templates/0",
    )


async def test_ten_thousand_labels_and_many_pictures_are_answered(service):
    labels = [f"cat {number}" for number in range(10_000)]
    answer = await classify(service, [picture(seed) for seed in range(8)], model="tiny-open", labels=labels)
    assert [len(result.predictions) for result in answer.results] == [5] * 8


def test_the_best_are_the_same_by_both_ways_of_looking():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, 1000).astype(np.float32)
    labels = [str(n) for n in range(1000)]
    few, all_of_them = best(scores, labels, 20, None), best(scores, labels, 1000, None)
    assert few == all_of_them[:20]


async def test_labels_that_are_cut_or_alike_are_told_of_every_time(service):
    labels = ["cat " * 60 + "red", "dog", "cat " * 60 + "blue"]
    for seed in range(2):  # the second time their rows are kept
        reading = (await classify(service, [picture(seed)], model="tiny-open", labels=labels)).reading
        assert [(one.index, one.kept, one.templates) for one in reading.truncated] == [(0, 32, (0, 1)), (2, 32, (0, 1))]
        assert [(note.code, note.indices) for note in reading.notes] == [("labels-alike", (0, 2))]


async def test_rows_of_another_process_are_told_of_too(backend, settings):
    labels = [*(f"cat {number}" for number in range(130)), "dog " * 60]
    for _ in range(2):  # another process: it finds the rows on the disk
        service = Classification(backend, settings)
        reading = (await classify(service, [picture()], model="tiny-open", labels=labels)).reading
        assert [one.index for one in reading.truncated] == [130]


async def test_labels_that_would_be_cut_are_refused_where_that_is_asked(service):
    fields = {"model": "tiny-open", "labels": ["dog", "cat " * 60], "truncate": False}
    assert await code(service, **fields) == ("text-too-long", "/labels/1")
    assert await classify(service, [picture()], model="tiny-open", labels=["dog"], truncate=False)
