"""Suites and protocols are data: complete, consistent, refused with file and field where they are not."""

import pytest

from models.errors import ModelError
from services.datasets.package import Package
from services.errors import Problem
from services.evaluation import protocols
from services.evaluation.suites import builtin, registry
from services.evaluation.suites.preparing import prepare
from services.settings import Settings


def test_elevater_has_its_twenty_sets_and_imagenet_beside_them():
    found = registry.suite("elevater")
    assert len(found.datasets) == 21 and len(found.averaged) == 20 and "imagenet-1k" not in found.averaged
    by_name = {own.name: own for own in found.datasets}
    assert by_name["caltech-101"].metric == "mean-per-class" and len(by_name["caltech-101"].templates) == 34
    assert by_name["voc-2007-classification"].task == "multilabel"
    assert by_name["fer-2013"].synonyms["happy"] == ("smiling",)
    assert not by_name["kitti-distance"].center_crop and by_name["resisc45_clip"].sizes["test"] == 25_200
    assert by_name["mnist"].source.names == ("train.txt", "train.zip", "test.txt", "val.zip")
    assert by_name["mnist"].knowledge.external == "mnist_knowledge.tsv"


def test_the_detection_suite_has_35_sets_of_which_13_are_the_smaller_one():
    found = registry.suite("odinw35")
    assert len(found.datasets) == 35 and sum(own.in_odinw13 for own in found.datasets) == 13
    assert {own.metric for own in found.datasets} == {"coco_ap"}


@pytest.mark.parametrize("name", protocols.names())
def test_every_protocol_is_sound(name):
    from services.finetuning.strategies import names

    found = protocols.protocol(name)
    assert found.title and (found.method is None or found.method in names())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: mine\ntitle: [", "not YAML"),
        ("name: other\ntitle: t\ndatasets: [{name: a, task: classification, metric: accuracy, classes: [x]}]", "other"),
        ("name: mine\ntitle: t\ndatasets: [{name: a, task: multilabel, metric: accuracy, classes: [x]}]", "11point"),
        ("name: mine\ntitle: t\ndatasets: [{name: a, task: classification, metric: roc_auc, classes: [x]}]", "two"),
        ("name: mine\ntitle: t\ndatasets: []", "datasets"),
        ("name: mine\ntitle: t\nsets: []", "sets"),
    ],
)  # fmt: skip
def test_a_suite_that_is_not_right_is_refused_with_the_field(text, words):
    with pytest.raises(ModelError, match=words) as caught:
        registry.read_suite(text, "suites/mine.yaml", "mine")
    assert "suites/mine.yaml" in str(caught.value)


POCKET = [spec for spec in registry.suite("pocket").datasets if spec.source.kind != "pictographs"]


@pytest.mark.parametrize("spec", POCKET, ids=lambda spec: spec.name)
def test_the_pocket_sets_are_made_without_a_network_and_have_the_stated_sizes(spec, tmp_path):
    settings = Settings(data_dir=tmp_path)
    first = prepare(registry.suite("pocket"), spec, settings, lambda *_: None)
    with Package(first.file) as package:
        assert {split: len(package.split(split)) for split in spec.sizes} == spec.sizes
        labels = {label for stored in package.samples for label in stored.sample.labels}
        assert labels == set(range(len(spec.classes)))
    made = first.file.stat().st_mtime_ns
    again = prepare(registry.suite("pocket"), spec, settings, lambda *_: None)
    assert (again.sha256, again.file.stat().st_mtime_ns) == (first.sha256, made)


def test_a_set_whose_package_is_missing_says_what_to_install(tmp_path, monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'skimage'", name="skimage.data")

    monkeypatch.setitem(builtin.MAKERS, "faces", missing)
    [spec] = registry.choose(registry.suite("pocket"), ("faces",))
    with pytest.raises(Problem) as caught:
        prepare(registry.suite("pocket"), spec, Settings(data_dir=tmp_path), lambda *_: None)
    assert caught.value.code == "suite-package-missing" and "skimage" in caught.value.detail
