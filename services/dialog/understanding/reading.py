"""Features of a turn to its acts: the heads' probabilities, what the lexicon knows, and what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.dialog.acts import USER_ACTS, Act
from services.dialog.database.table import Table
from services.dialog.schema import Schema
from services.dialog.sentences import Span
from services.dialog.understanding.heads import Floats, Heads, pooled
from services.dialog.understanding.lexicon import Found, Lexicon
from services.dialog.understanding.space import Offsets, Space
from services.dialog.values import is_of, plain

_LIKELY = 0.5
_SURE = 0.8
_SURE_WORDS = 3
"""Known values of fewer letters are believed only where the heads agree."""


@dataclass(frozen=True, slots=True)
class Understood:
    """Acts of a turn with the spans behind them. ``confidence`` is that of the least sure of them, from 0 to 1; without
    any act, how sure it is that there is none. ``unknown_values`` were said for slots that do not have them."""

    acts: tuple[Act, ...]
    spans: tuple[Span, ...]
    confidence: float
    unknown_values: tuple[Act, ...] = ()


class Reader:
    """Reads the turns of one version of a bot. Holds no state of a dialog."""

    def __init__(self, schema: Schema, table: Table | None, heads: Heads) -> None:
        self.space = Space.of(schema)
        self._kinds = {slot.name: slot.type for slot in schema.slots}
        self._called = {slot.name: [plain(one) for one in (*slot.called, slot.spoken)] for slot in schema.slots}
        self._lexicon = Lexicon(schema, table)
        self._heads = heads

    def read(self, text: str, tokens: Floats, offsets: Offsets, system: Sequence[Act]) -> Understood:
        """``tokens (L, F) float32`` are the encoder's features of ``text``, ``offsets`` what each stands for."""
        context = self.space.context(system)
        turn = self._heads.turn(pooled(tokens), context)
        tagged = self._tagged(text, self._heads.tags(tokens, context), offsets)
        found = self._with_lexicon(text, tagged, turn, system)

        acts: list[Act] = []
        unknown: list[Act] = []
        sure: list[float] = []
        for span, share in found:
            value = self._lexicon.value(span.slot, text[span.start : span.end])
            if value is None or not is_of(value, self._kinds[span.slot]):
                unknown.append(Act("inform", span.slot, text[span.start : span.end]))
                continue
            acts.append(Act("inform", span.slot, value))
            sure.append(share)

        more, shares = self._questions(text, turn, {act.slot for act in acts}, system)
        acts += more
        sure += shares
        if not acts:
            acts, sure = [Act("unknown")], [float(turn[USER_ACTS.index("unknown")])]
        spans = tuple(span for span, _ in found)
        return Understood(tuple(acts), spans, min(sure), tuple(unknown))

    def _tagged(self, text: str, tags: Floats, offsets: Offsets) -> list[tuple[Span, float]]:
        """Spans of the tags: of a slot's tokens without a gap, out to whole words."""
        found: list[tuple[Span, float]] = []
        best = tags.argmax(1)
        index = 0
        while index < len(best):
            tag = int(best[index])
            start, end = offsets[index]
            if tag == 0 or end <= start:
                index += 1
                continue
            slot, shares = (tag - 1) // 2, [float(tags[index, tag])]
            index += 1
            while index < len(best) and offsets[index][1] > offsets[index][0]:
                following = int(best[index])
                same_word = offsets[index][0] == end and text[end - 1].isalnum() and text[end].isalnum()
                if following != 2 + 2 * slot and not same_word:
                    break
                end = offsets[index][1]
                shares.append(float(tags[index].max()))
                index += 1
            while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
                start -= 1
            found.append((Span(self.space.spanned[slot], start, end, ""), float(np.mean(shares))))
        return found

    def _with_lexicon(
        self, text: str, tagged: list[tuple[Span, float]], turn: Floats, system: Sequence[Act]
    ) -> list[tuple[Span, float]]:
        """Known values mend the bounds of spans that they touch, and stand for themselves where only one slot has them
        or one of theirs was asked for."""
        asked = {act.slot for act in system if act.name in ("request", "select")}
        informs = float(turn[USER_ACTS.index("inform")])
        kept = list(tagged)
        for known in self._lexicon.find(text):
            touching = [pair for pair in kept if pair[0].start < known.end and pair[0].end > known.start]
            agreed = [pair for pair in touching if pair[0].slot in known.slots]
            if agreed:
                span, share = agreed[0]
                if known.end - known.start >= span.end - span.start:
                    kept = [pair for pair in kept if pair not in touching]
                    kept.append((Span(span.slot, known.start, known.end, ""), share))
                continue
            slot = self._only_slot(known, asked)
            longest = max((span.end - span.start for span, _ in touching), default=0)
            sure = max((share for _, share in touching), default=0.0) > _SURE
            if slot is None or (sure and longest >= known.end - known.start):
                continue
            if known.end - known.start < _SURE_WORDS and slot not in asked:
                continue
            if informs < 0.1 and slot not in asked and not touching:
                continue  # "is there any other" holds no value though a word of it may be one
            kept = [pair for pair in kept if pair not in touching]
            kept.append((Span(slot, known.start, known.end, ""), max(informs, _LIKELY)))
        return _once(sorted(kept, key=lambda pair: pair[0].start))

    @staticmethod
    def _only_slot(known: Found, asked: set[str]) -> str | None:
        if len(known.slots) == 1:
            return next(iter(known.slots))
        wanted = [slot for slot in known.slots if slot in asked]
        return wanted[0] if len(wanted) == 1 else None

    def _questions(
        self, text: str, turn: Floats, informed: set[str], system: Sequence[Act]
    ) -> tuple[list[Act], list[float]]:
        """Acts without values, and those of yes-or-no slots."""
        space, acts, sure = self.space, [], []
        first = len(USER_ACTS)
        second = first + len(space.informable)
        third = second + len(space.requestable)

        for index, (slot, value) in enumerate(space.chosen):
            share, other = float(turn[third + index]), float(turn[third + (index ^ 1)])
            if share > max(_LIKELY, other):  # pairs of yes and no
                acts.append(Act("inform", slot, value))
                sure.append(share)
                informed = informed | {slot}

        shares = {
            slot: float(turn[first + index]) for index, slot in enumerate(space.informable) if slot not in informed
        }
        indifferent = [slot for slot, share in shares.items() if share > _LIKELY]
        if not indifferent and turn[USER_ACTS.index("dont_care")] > _LIKELY:
            indifferent = [act.slot for act in system if act.name == "request" and act.slot in shares]
        indifferent = [self._meant(text, slot, system, informed) for slot in indifferent]
        for slot in dict.fromkeys(indifferent):
            acts.append(Act("dont_care", slot))
            sure.append(max(shares.get(slot, 0.0), _LIKELY))

        for index, slot in enumerate(space.requestable):
            if turn[second + index] > _LIKELY:
                acts.append(Act("request", slot))
                sure.append(float(turn[second + index]))

        valued = ("inform", "dont_care", "request", "select", "unknown")
        for index, name in enumerate(USER_ACTS):
            if name not in valued and turn[index] > _LIKELY:
                acts.append(Act(name))
                sure.append(float(turn[index]))
        return acts, sure

    def _meant(self, text: str, slot: str, system: Sequence[Act], informed: set[str]) -> str:
        """Of what somebody does not care: of what was asked for, unless the text speaks of something else."""
        asked = [act.slot for act in system if act.name == "request"]
        if len(asked) != 1 or asked[0] in informed or any(word in plain(text) for word in self._called[slot]):
            return slot
        return asked[0]


def _once(found: list[tuple[Span, float]]) -> list[tuple[Span, float]]:
    """Of several spans of one slot the surest: a belief has one value a slot."""
    best: dict[str, tuple[Span, float]] = {}
    for span, share in found:
        if span.slot not in best or share > best[span.slot][1]:
            best[span.slot] = (span, share)
    return list(best.values())
