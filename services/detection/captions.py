"""The captions of a request with the phrases in them: those that are named, or the noun phrases."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.detection.answers import GroundRequest
from services.detection.noun_phrases import Span, noun_phrases, tagger
from services.detection.protocol import Caption, Found, OpenVocabulary, Vocabulary
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages


async def captions_of(request: GroundRequest, settings: Settings) -> list[Caption]:
    """One for each picture, with at least one phrase. Raises ``caption-*`` and ``phrase-*``."""
    for index, caption in enumerate(request.captions):
        _check(caption, settings.max_text_chars, _where(request, index))
    if request.phrases is not None:
        return [_named(request, index) for index in range(len(request.captions))]
    return await asyncio.to_thread(_found, request)


async def phrases_as_labels(
    kind: OpenVocabulary, pictures: Sequence[Picture], captions: Sequence[Caption], options: Options, stages: Stages
) -> AsyncGenerator[Found, None]:
    """What ``kind``, which reads no sentences, finds of each phrase by itself: one column a span of the caption."""
    asked = [Vocabulary.of(list(dict.fromkeys(caption.phrases))) for caption in captions]
    index = 0
    async with aclosing(kind.detect(pictures, asked, options, stages)) as finding:
        async for found in finding:
            places = {phrase: place for place, phrase in enumerate(asked[index].labels)}
            columns = [places[phrase] for phrase in captions[index].phrases]
            index += 1
            yield Found(
                found.boxes,
                found.scores[:, columns],
                found.presence[columns],
                proposals=found.proposals,
                tokens=found.tokens,
                chunks=found.chunks,
            )


def _where(request: GroundRequest, index: int) -> str:
    return "/caption" if request.one_caption else f"/captions/{index}"


def _check(caption: str, longest: int, where: str) -> None:
    if not caption.strip():
        raise _refusal("caption-empty", "The caption is empty", "It has no characters but white space.", where)
    if len(caption) > longest:
        detail = f"It has {len(caption):,} characters; at most {longest:,} are accepted."
        raise _refusal("caption-too-long", "The caption is too long", detail, where)
    if not caption.isascii():
        try:
            caption.encode()
        except UnicodeEncodeError:
            detail = "It holds half of a surrogate pair."
            raise _refusal("caption-invalid", "The caption is no Unicode text", detail, where) from None


def _refusal(code: str, title: str, detail: str, where: str) -> Problem:
    remedy = 'Send a sentence about the image, such as "a man in a red hat".'
    return Problem(Kind.INVALID, code, title, detail, pointer=where, remedy=remedy)


def _found(request: GroundRequest) -> list[Caption]:
    known: dict[str, Caption] = {}
    for index, text in enumerate(request.captions):
        if text in known:
            continue
        spans = noun_phrases(text, tagger())
        if not spans:
            raise Problem(
                Kind.INVALID,
                "caption-no-phrase",
                "The caption names nothing",
                f"No noun phrase was found in {text[:80]!r}; captions are read as English.",
                pointer=_where(request, index),
                remedy="Say what to look for in `phrases`, as it stands in the caption.",
            )
        known[text] = Caption(text, tuple(spans))
    return [known[text] for text in request.captions]


def _named(request: GroundRequest, index: int) -> Caption:
    """The caption with its named phrases: the first of a text is its first occurrence, the second its second."""
    caption = request.captions[index]
    if not request.phrases:
        raise Problem(
            Kind.INVALID,
            "phrases-empty",
            "There are no phrases",
            "The list of phrases is empty.",
            pointer="/phrases",
            remedy="Name a phrase, or leave phrases out: noun phrases of the caption are found.",
        )
    spans: list[Span] = []
    after: dict[str, int] = {}
    for place, phrase in enumerate(request.phrases):
        wanted = phrase.strip()
        span = _occurrence(caption, wanted, after.get(wanted, 0))
        if span is None:
            again = " again" if wanted in after else ""
            raise Problem(
                Kind.INVALID,
                "phrase-not-in-caption",
                "A phrase is not in the caption",
                f"{wanted[:80]!r} does not stand{again} in {caption[:80]!r}.",
                pointer=f"/phrases/{place}",
                remedy="Send phrases as they stand in the caption, or leave them out.",
            )
        after[wanted] = span[1]
        spans.append(span)
    return Caption(caption, tuple(spans))


def _occurrence(caption: str, phrase: str, start: int) -> Span | None:
    """Where ``phrase`` next stands as whole words, as written or else in other case."""
    if not phrase:
        return None
    before = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    behind = r"(?!\w)" if re.search(r"\w\Z", phrase) else ""
    pattern = f"{before}{re.escape(phrase)}{behind}"
    for flags in (re.NOFLAG, re.IGNORECASE):
        match = re.compile(pattern, flags).search(caption, start)
        if match is not None:
            return match.span()
    return None
