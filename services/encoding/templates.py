"""Prompt templates: labels to texts, and the named sets of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from services.errors import Kind, Problem
from services.text.camel_case import split_camel_case

MOST_TEMPLATES = 256
MOST_TEXTS = 100_000
"""Labels times templates in one request; 1,000 classes with 81 templates are 81,000."""

_SLOT = "{}"
_SUFFIX = ".txt"


def fill(labels: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """The texts of each label: every template with the label, white space around it removed, in place of ``{}``.

    A label in camel case is filled in as the words that it stands for.

    Raises ``label-empty``, ``template-invalid``, ``no-templates``, ``too-many-templates`` or ``too-many-texts``,
    pointing at ``/labels`` or ``/templates`` of the request.
    """
    parts = _parts(templates)
    if len(labels) * len(parts) > MOST_TEXTS:
        raise Problem(
            Kind.INVALID,
            "too-many-texts",
            "Too many labels times templates",
            f"{len(labels):,} labels with {len(parts)} templates are {len(labels) * len(parts):,} texts; "
            f"at most {MOST_TEXTS:,} are accepted.",
            pointer="/templates",
            remedy="Send fewer templates.",
        )

    texts = []
    for index, label in enumerate(labels):
        name = split_camel_case(label.strip())
        if not name:
            raise Problem(
                Kind.INVALID,
                "label-empty",
                "Label is empty",
                f"Label {index} has no characters but white space.",
                pointer=f"/labels/{index}",
                remedy="Name the class.",
            )
        texts.append([before + name + after for before, after in parts])

    return texts


def names() -> list[str]:
    """The names of the template sets, sorted."""
    folder = files("models.catalog") / "templates"
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))


def named(name: str) -> tuple[str, ...]:
    """The templates of a named set. Raises ``template-set-unknown``."""
    if name not in names():
        raise Problem(
            Kind.INVALID,
            "template-set-unknown",
            "Template set is unknown",
            f"There is no template set {name[:80]!r}.",
            pointer="/template_set",
            remedy=f"Use one of {', '.join(names())}, or send the templates themselves.",
        )
    return _read(name)


@cache
def _read(name: str) -> tuple[str, ...]:
    """One template a line; lines that begin with ``#`` say where they come from."""
    text = (files("models.catalog") / "templates" / (name + _SUFFIX)).read_text("utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def _parts(templates: Sequence[str]) -> list[tuple[str, str]]:
    if not templates:
        raise Problem(
            Kind.INVALID,
            "no-templates",
            "No template",
            "The list of templates is empty.",
            pointer="/templates",
            remedy='Send at least one, such as "a photo of a {}.", or leave the field out.',
        )

    if len(templates) > MOST_TEMPLATES:
        raise Problem(
            Kind.INVALID,
            "too-many-templates",
            "Too many templates",
            f"{len(templates):,} templates; at most {MOST_TEMPLATES} are accepted.",
            pointer="/templates",
        )

    parts = []
    for index, template in enumerate(templates):
        before, slot, after = template.partition(_SLOT)
        if not slot or _SLOT in after:
            raise Problem(
                Kind.INVALID,
                "template-invalid",
                "Template has no place for the label",
                f"Template {template!r} holds {{}} {'more than once' if slot else 'nowhere'}.",
                pointer=f"/templates/{index}",
                remedy='Write {} exactly once, as in "a photo of a {}.".',
            )
        parts.append((before, after))

    return parts
