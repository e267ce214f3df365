import pytest

from services.encoding.templates import MOST_TEMPLATES, fill, named, names
from services.errors import Kind, Problem


def refused(labels: list[str], templates: list[str]) -> Problem:
    with pytest.raises(Problem) as caught:
        fill(labels, templates)
    assert caught.value.kind is Kind.INVALID
    return caught.value


def test_every_label_is_put_into_every_template_in_order():
    assert fill(["cat", "dog"], ["a {}.", "{}", "{} here"]) == [
        ["a cat.", "cat", "cat here"],
        ["a dog.", "dog", "dog here"],
    ]


def test_braces_and_white_space_of_a_label_do_no_harm():
    assert fill([" {} {0} %s {x} \n"], ["[{}]"]) == [["[{} {0} %s {x}]"]]


@pytest.mark.parametrize(
    ("template", "word"), [("a photo", "nowhere"), ("", "nowhere"), ("{} or {}", "more than once"), ("{c}", "nowhere")]
)
def test_a_template_has_exactly_one_place(template: str, word: str):
    problem = refused(["cat"], ["{}", template])
    assert (problem.code, problem.pointer) == ("template-invalid", "/templates/1")
    assert word in problem.detail


@pytest.mark.parametrize("label", ["", " ", "\t\n", "\u3000"])
def test_an_empty_label_is_refused_with_its_place(label: str):
    problem = refused(["cat", label], ["{}"])
    assert (problem.code, problem.pointer) == ("label-empty", "/labels/1")


def test_no_template_and_too_many_are_refused():
    assert refused(["cat"], []).code == "no-templates"
    assert refused(["cat"], ["{}"] * (MOST_TEMPLATES + 1)).code == "too-many-templates"
    assert refused(["cat"] * 10_000, ["{}"] * 11).code == "too-many-texts"
    assert len(fill(["cat"] * 1000, named("imagenet-81"))) == 1000


def test_every_named_set_is_valid():
    assert {"imagenet-7", "imagenet-80", "imagenet-81", "photo", "plain"} <= set(names())
    for name in names():
        templates = named(name)
        assert len(set(templates)) == len(templates) == len(fill(["x"], templates)[0])


def test_the_imagenet_sets_are_clips():
    assert len(named("imagenet-80")) == 80
    assert named("imagenet-80")[0] == "a bad photo of a {}."
    assert named("imagenet-81") == (*named("imagenet-80"), "{}.")
    assert set(named("imagenet-7")) <= set(named("imagenet-80"))


@pytest.mark.parametrize("name", ["imagenet", "../card", "", "imagenet-80.txt", "/etc/passwd", "\x00"])
def test_an_unknown_set_is_refused_with_those_that_exist(name: str):
    with pytest.raises(Problem) as caught:
        named(name)
    assert caught.value.code == "template-set-unknown"
    assert "imagenet-80" in (caught.value.remedy or "")
