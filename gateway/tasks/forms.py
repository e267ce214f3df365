"""The fields of each resource's requests, with this server's limits."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.request.fields import Choice, Flag, Form, Image, Images, Number, Text, Texts, Whole
from gateway.tasks.classify_body import MAX_TEMPLATES
from gateway.tasks.embeddings_body import MAX_DIMENSIONS, MAX_INPUTS
from services.settings import Settings

_NAME = 64  # as long as a model's name may be
_VERSION = 9  # and its version


def classify_form(settings: Settings) -> Form:
    """``POST /v1/classify``."""
    return Form(
        {
            "model": Text(_NAME),
            "version": Text(_VERSION),
            "image": Image(),
            "images": Images(settings.max_images),
            "labels": Texts(settings.max_labels, settings.max_text_chars),
            "label_set": Text(_NAME),
            "templates": Texts(MAX_TEMPLATES, settings.max_text_chars),
            "template_set": Text(_NAME),
            "top_k": Whole(1, settings.max_labels),
            "multi_label": Flag(),
            "threshold": Number(0, 1),
            "explain": Flag(),
        }
    )


def embeddings_form(settings: Settings) -> Form:
    """``POST /v1/embeddings``."""
    return Form(
        {
            "model": Text(_NAME),
            "input": Texts(MAX_INPUTS, settings.max_text_chars, single=True),
            "image": Image(),
            "images": Images(settings.max_images),
            "encoding_format": Choice(("float", "base64")),
            "dimensions": Whole(1, MAX_DIMENSIONS),
            "user": Text(settings.max_text_chars),
        }
    )


@dataclass(frozen=True, slots=True)
class Forms:
    """All of them."""

    classify: Form
    embeddings: Form

    @staticmethod
    def of(settings: Settings) -> Forms:
        return Forms(classify_form(settings), embeddings_form(settings))
