"""A simulated user's acts in words, straying from the sentences as people do; where values stand is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from services.dialog.acts import Act
from services.dialog.schema import Schema
from services.dialog.sentences import Said, Sentences, Span, fill, joined, placeholders
from services.dialog.values import time_of

_WORD = re.compile(r"[a-z']+")
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Texts:
    """The words of simulated users over one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.sentences = Sentences(schema)
        self._noise = schema.paraphrase
        self._slots = {slot.name: slot for slot in schema.slots}

    def say(self, acts: Sequence[Act], system: Sequence[Act], random: Random) -> Said:
        """``acts`` in one text; ``system`` is what was asked, which may be answered without saying what for."""
        asked = [act.slot for act in system if act.name == "request"]
        informed = [act for act in acts if act.name == "inform"]
        parts: list[Said] = []
        for act in acts:
            if act.name != "inform":
                parts.append(self._single(act, asked, random))
        if informed:
            place = random.randint(0, len(parts)) if random.random() < self._noise.reorder else len(parts)
            parts.insert(place, self._inform(informed, asked, random))

        said = joined(parts, random.choice((" , ", " . ", " and ", " ")))
        return self._stray(said, random)

    def _single(self, act: Act, asked: Sequence[str], random: Random) -> Said:
        short = act.name == "dont_care" and act.slot in asked and len(asked) == 1 and random.random() < 0.6
        choices = self.sentences.user(act.name, "" if short else act.slot) or (act.name.replace("_", " "),)
        usable = [one for one in choices if not short or not placeholders(one)]
        return self._filled(random.choice(usable or list(choices)), act, random)

    def _inform(self, acts: Sequence[Act], asked: Sequence[str], random: Random) -> Said:
        whole = self.sentences.together([act.slot for act in acts])
        if whole and random.random() < 0.6:
            values = {act.slot: (act.slot, self._words(act, random), act.value) for act in acts}
            return fill(random.choice(whole), values)

        if len(acts) == 1 and acts[0].slot in asked and random.random() < 0.7:
            return self._filled(
                random.choice(self.sentences.user("answer", acts[0].slot, acts[0].value)), acts[0], random
            )

        phrases = []
        order = list(acts)
        if random.random() < self._noise.reorder:
            random.shuffle(order)
        for act in order:
            phrases.append(self._filled(random.choice(self.sentences.user("inform", act.slot, act.value)), act, random))
        constraints = joined(phrases, random.choice((" ", " and ", " , ")))
        carrier = random.choice(
            [one for one in self.sentences.user("inform") if "{constraints}" in one] or ["{constraints}"]
        )
        before, _, after = carrier.partition("{constraints}")
        return joined([Said(before), constraints, Said(after)], "")

    def _filled(self, sentence: str, act: Act, random: Random) -> Said:
        values: dict[str, tuple[str, str, str]] = {"domain": ("", self.schema.task.id, ""), "constraints": ("", "", "")}
        if act.slot:
            values["slot"] = ("", self.sentences.called(act.slot, random), "")
            values["value"] = values[act.slot] = (act.slot, self._words(act, random), act.value)
        return fill(sentence, values)

    def _words(self, act: Act, random: Random) -> str:
        """One of the ways to say a value."""
        slot = self._slots[act.slot]
        ways: list[str] = [act.value, act.value, *slot.synonyms.get(act.value, ())]
        if slot.type == "number" and act.value.isdigit() and int(act.value) < len(_NUMBERS):
            ways.append(_NUMBERS[int(act.value)])
        if slot.type == "time" and time_of(act.value):
            ways += _times(act.value)
        return random.choice(ways)

    def _stray(self, said: Said, random: Random) -> Said:
        noise = self._noise

        def synonym(word: str) -> str:
            others: list[str] = noise.synonyms.get(word, [])
            return random.choice(others) if others and random.random() < 0.5 else word

        def dropped(word: str) -> str:
            return "" if random.random() < 0.15 else word

        def mistyped(word: str) -> str:
            return _typo(word, random) if len(word) > 3 and random.random() < 0.3 else word

        if noise.synonyms:
            said = _replaced(said, synonym)
        if random.random() < noise.drop:
            said = _replaced(said, dropped)
        if random.random() < noise.typos:
            said = _replaced(said, mistyped)
        if noise.fillers and random.random() < noise.filler:
            filler = Said(random.choice(noise.fillers))
            said = joined([filler, said] if random.random() < 0.6 else [said, filler], " ")
        return said


def _replaced(said: Said, change: Callable[[str], str]) -> Said:
    """Words outside of values changed by ``change``; what it empties goes."""
    parts: list[Said] = []
    end = 0
    for span in [*sorted(said.spans, key=lambda span: span.start), None]:
        between = said.text[end : span.start if span else len(said.text)]
        parts.append(Said(_WORD.sub(lambda found: change(found.group()), between)))
        if span is not None:
            words = said.text[span.start : span.end]
            parts.append(Said(words, (Span(span.slot, 0, len(words), span.value),)))
            end = span.end
    return joined(parts, "")


def _times(value: str) -> list[str]:
    """A time of day as people say it."""
    hour, minute = int(value[:2]), value[3:]
    short, half = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    ways = [f"{short}:{minute} {half}", f"{short}.{minute}{half}"]
    if minute == "00":
        ways += [f"{short} {half}", f"{short}{half}", f"{_NUMBERS[short]} {half}"]
    # Said without its half of the day, it is an hour of the morning.
    if hour == short:
        ways += [f"half past {_NUMBERS[hour]}", f"half past {hour}"] if minute == "30" else []
        ways += [f"quarter past {_NUMBERS[hour]}"] if minute == "15" else []
        if minute == "00":
            ways += [f"{hour} o'clock", f"{_NUMBERS[hour]} o'clock"]
    return ways


def _typo(word: str, random: Random) -> str:
    place = random.randrange(len(word) - 1)
    way = random.randrange(3)
    if way == 0:  # two letters swapped
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if way == 1:  # one lost
        return word[:place] + word[place + 1 :]
    return word[:place] + random.choice(_LETTERS) + word[place + 1 :]
