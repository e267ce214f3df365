"""Rows of what is looked for in drawings: of nouns as they are said, and of what examples show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from services.detection.caption_tokens import COLOURS, COUNTS, phrase_tokens
from services.detection.protocol import Array, Example, Vocabulary
from services.encoding.class_rows import ClassRows, source_of, text_rows
from services.encoding.images import unit
from services.encoding.texts import TextEncoder
from services.runtime.problems import model_invalid
from services.runtime.protocol import ModelHandle, Options
from services.stages import Stages

WORDS = COLOURS | COUNTS | {"left of", "right of", "above", "below", "and"}
"""Tokens that are no noun: they are embedded as they are, without templates."""

See = Callable[[Example], Awaitable[Array]]


class DrawnNames:
    """Of the part ``text`` of a model, in the templates of its card; kept."""

    def __init__(self, model: ModelHandle, rows: ClassRows) -> None:
        pipeline = model.card.pipeline
        assert pipeline is not None
        self._rows, self._source = rows, source_of(model)
        self._text = TextEncoder(model.parts["text"], rows.texts)
        templates = pipeline.parameters.get("templates")
        if not isinstance(templates, list | tuple):
            raise model_invalid(f"{model.card.name}: pipeline: parameters: templates are no list.", "Pull it again.")
        self._templates = tuple(str(template) for template in templates)

    async def of(self, phrases: Sequence[str], options: Options, stages: Stages) -> Array:
        """Unit rows ``(T, D)``: of a noun as it is said, and, where a colour is before it, without it too."""
        said = [phrase_tokens(phrase) for phrase in phrases]
        whole = [" ".join(word for word in own if word not in COUNTS) or own[-1] for own in said]
        nouns = [own[-1] for own in said]
        rows = await self._kept([*whole, *nouns], self._templates, options, stages)
        return unit(np.stack([rows[text] for text in whole]) + np.stack([rows[text] for text in nouns]))

    async def of_labels(self, vocabulary: Vocabulary, see: See, options: Options, stages: Stages) -> Array:
        """Unit rows of labels and then negative labels; an example adds the row of what it shows."""
        count, negative = len(vocabulary.labels), len(vocabulary.negative_labels)
        shown = [(example.label, await see(example)) for example in vocabulary.examples]
        if vocabulary.texts:
            told = await self.of(vocabulary.texts, options, stages)
        else:
            told = np.zeros((0, len(shown[0][1])), np.float32)
        rows = np.zeros((count + negative, told.shape[1]), np.float32)
        rows[: vocabulary.named] = told[: vocabulary.named]
        rows[count:] = told[vocabulary.named :]
        for label, row in shown:
            rows[label] += row
        return unit(rows)

    async def tokens(self, tokens: Sequence[str], options: Options, stages: Stages) -> Array:
        """Rows ``(L, D)`` of tokens as the head was trained on them: nouns in templates, other words as they are."""
        words = await self._kept([token for token in tokens if token in WORDS], ("{}",), options, stages)
        nouns = await self._kept([token for token in tokens if token not in WORDS], self._templates, options, stages)
        known = words | nouns
        return np.stack([known[token] for token in tokens])

    async def _kept(
        self, texts: Sequence[str], templates: tuple[str, ...], options: Options, stages: Stages
    ) -> dict[str, Array]:
        async def compute(part: Sequence[str]) -> Array:
            return await text_rows(self._text, part, templates, options, stages)

        distinct = tuple(dict.fromkeys(texts))
        if not distinct:
            return {}
        rows = await self._rows.get(self._source, distinct, templates, compute, options.deadline)
        return dict(zip(distinct, rows, strict=True))
