"""Acts to words: a schema's own sentences, and Sightline's where it has none; where each value stands is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from services.dialog.acts import Act
from services.dialog.schema import Schema

_PLACE = re.compile(r"\{([a-z0-9_]*)\}")

USER: Mapping[str, tuple[str, ...]] = {
    "greet": ("hello", "hi there", "hi", "good morning", "hey"),
    "inform": (
        "i am looking for something {constraints}",
        "i need one {constraints}",
        "{constraints}",
        "i want it {constraints}",
        "can you find me one {constraints}",
        "i would like something {constraints}",
        "it should be {constraints}",
        "do you have anything {constraints}",
        "find something {constraints} please",
        "i'd prefer {constraints}",
    ),
    "inform(*)": (
        "with {slot} {value}",
        "{slot} {value}",
        "{value}",
        "{value} for the {slot}",
        "the {slot} should be {value}",
        "where the {slot} is {value}",
        "{value} {slot}",
    ),
    "inform(*=yes)": ("with {slot}", "it should have {slot}", "that has {slot}", "including {slot}", "i need {slot}"),
    "inform(*=no)": ("without {slot}", "no {slot}", "i do not need {slot}", "that has no {slot}"),
    "answer(*)": (
        "{value}",
        "{value} please",
        "{slot} {value}",
        "i'd say {value}",
        "{value} would be good",
        "let's go with {value}",
        "make it {value}",
        "how about {value}",
        "it is {value}",
    ),
    "dont_care(*)": (
        "i don't care about the {slot}",
        "any {slot} is fine",
        "the {slot} does not matter",
        "any {slot}",
        "i have no preference for the {slot}",
        "whatever {slot} you have",
        "no preference on {slot}",
        "it doesn't matter what {slot}",
        "i do not mind the {slot}",
    ),
    "dont_care": (
        "i don't care",
        "it doesn't matter",
        "anything is fine",
        "no preference",
        "any",
        "no",
        "not really",
        "no , i do not care",
        "i don't have a preference",
        "i have no preference",
        "it is not important",
        "surprise me",
        "whatever you recommend",
        "i do not mind",
        "doesn't matter to me",
        "anything",
    ),
    "request(*)": (
        "what is the {slot}",
        "can i have the {slot}",
        "could you tell me the {slot}",
        "and the {slot}",
        "what's their {slot}",
        "i need the {slot}",
        "may i get the {slot} please",
        "give me the {slot}",
        "{slot} please",
        "do you know the {slot}",
    ),
    "request_alternatives": (
        "is there anything else",
        "do you have another one",
        "what else is there",
        "something else please",
        "i don't like that one , any others",
        "how about another",
        "any other options",
    ),
    "select(*)": (
        "{value}",
        "i take {value}",
        "{value} sounds good",
        "let's go with {value}",
        "the first you said , {value}",
        "{value} please",
    ),
    "affirm": (
        "yes",
        "yes please",
        "that's right",
        "correct",
        "sure",
        "yeah that is right",
        "ok",
        "sounds good",
        "yep",
        "that works",
    ),
    "negate": (
        "no",
        "no that's wrong",
        "nope",
        "that is not right",
        "not that",
        "no , wrong",
        "that is not what i said",
    ),
    "confirm_action": (
        "i want to book it",
        "please book that",
        "can you book it for me",
        "let's book it",
        "book it please",
        "i would like a reservation",
        "yes , make the booking",
        "go ahead and reserve it",
        "i'd like to book",
    ),
    "thank": ("thank you", "thanks", "thanks a lot", "great , thank you", "thank you very much", "perfect , thanks"),
    "bye": (
        "goodbye",
        "bye",
        "that is all",
        "thank you goodbye",
        "that's all i need , bye",
        "no that's everything",
        "have a nice day",
    ),
    "unknown": (
        "what do you think about football",
        "tell me a joke",
        "how old are you",
        "who won the election",
        "sing me a song",
        "is it going to rain tomorrow",
        "what is the meaning of life",
        "i had a long day at work",
        "can you do my homework",
        "blah blah blah",
        "my cat is sick",
        "play some music",
    ),
}
"""``(*)`` are phrases for a slot that has none of its own, ``answer(*)`` what is said when it was asked for."""

SYSTEM: Mapping[str, tuple[str, ...]] = {
    "greet": ("hello , how can i help you ?",),
    "request(*)": ("what {slot} would you like ?", "which {slot} do you prefer ?", "what should the {slot} be ?"),
    "inform(*)": ("the {slot} is {value} .", "{slot} : {value} ."),
    "confirm(*)": ("{slot} {value} , is that right ?",),
    "offer": ("how about {name} ?", "{name} would fit .", "i found {name} ."),
    "select": ("there are {count} that fit , {name} for example . which one would you like ?",),
    "no_match": ("i am sorry , nothing fits that . would you like to change something ?",),
    "notify_success": ("that is done .", "it is booked ."),
    "notify_failure": ("i am sorry , that did not work .",),
    "cannot_understand": ("i am sorry , i did not understand that . could you say it another way ?",),
    "bye": ("thank you , goodbye .", "you are welcome , have a nice day ."),
    "unknown_value(*)": ("i do not know the {slot} .",),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A value in a text: ``text[start:end]`` was said for ``slot``; ``value`` is what it stands for."""

    slot: str
    start: int
    end: int
    value: str


@dataclass(frozen=True, slots=True)
class Said:
    """A turn in words."""

    text: str
    spans: tuple[Span, ...] = ()


def placeholders(sentence: str) -> list[str]:
    """Names in braces, in their order."""
    return _PLACE.findall(sentence)


@lru_cache(maxsize=8192)
def _pieces(sentence: str) -> tuple[str, ...]:
    """Text and names by turns: odd places are names."""
    return tuple(_PLACE.split(sentence))


def fill(sentence: str, values: Mapping[str, tuple[str, str, str]]) -> Said:
    """``sentence`` with its names replaced by ``values``: ``(slot, words, value)``, no span where slot is empty."""
    text, spans = "", []
    for place, piece in enumerate(_pieces(sentence)):
        if place % 2 == 0:
            text += piece
            continue
        slot, words, value = values[piece]
        if slot:
            spans.append(Span(slot, len(text), len(text) + len(words), value))
        text += words
    return Said(text, tuple(spans))


def joined(parts: Sequence[Said], between: str) -> Said:
    """Several texts as one; spans move along."""
    text, spans = "", []
    for part in parts:
        if text and part.text:
            text += between
        spans += [Span(span.slot, span.start + len(text), span.end + len(text), span.value) for span in part.spans]
        text += part.text
    return Said(text, tuple(spans))


class Sentences:
    """The words of one schema, for both sides."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._called = {slot.name: slot.called or [slot.spoken] for slot in schema.slots}
        self._together = {
            frozenset(key.split("+")): tuple(sentences)
            for key, sentences in schema.templates.user.items()
            if "+" in key
        }

    def user(self, act: str, slot: str = "", value: str = "") -> tuple[str, ...]:
        """Sentences for a user's act; what the schema says goes before what we would say for any slot.

        A value may have sentences of its own, as those of yes-or-no slots do: ``inform(parking=yes)``.
        """
        own = self.schema.templates.user
        if value and f"{act}({slot}={value})" in own:
            return tuple(own[f"{act}({slot}={value})"])
        if value and f"{act}({slot})" not in own and f"{act}(*={value})" in USER:
            return USER[f"{act}(*={value})"]
        return self._of(own, USER, act, slot)

    def system(self, act: str, slot: str = "") -> tuple[str, ...]:
        """Sentences for an act of the bot."""
        return self._of(self.schema.templates.system, SYSTEM, act, slot)

    def together(self, slots: Sequence[str]) -> tuple[str, ...]:
        """Whole sentences that say exactly these slots at once."""
        return self._together.get(frozenset(f"inform({slot})" for slot in slots), ())

    def called(self, slot: str, random: Random) -> str:
        """One of the ways to speak of a slot."""
        return random.choice(self._called[slot])

    def _of(
        self, own: Mapping[str, Sequence[str]], ours: Mapping[str, tuple[str, ...]], act: str, slot: str
    ) -> tuple[str, ...]:
        key = f"{act}({slot})" if slot else act
        if key in own:
            return tuple(own[key])
        if slot and f"{act}(*)" in ours:
            return ours[f"{act}(*)"]
        if act in own:
            return tuple(own[act])
        return ours.get(act, ())


@dataclass(frozen=True, slots=True)
class Reply:
    """What the bot says, and the same with tokens for values, as SOLOIST writes replies."""

    text: str
    delexicalised: str


def reply(sentences: Sentences, acts: Sequence[Act], values: Mapping[str, str], count: int, random: Random) -> Reply:
    """Acts of one turn of the bot in words.

    ``values`` are what may be said: of the offered row, of the belief, of an action. A sentence that needs another
    value is not used, so that no reply can name what was not looked up.
    """
    schema = sentences.schema
    name = schema.database.name if schema.database else ""
    name_slot = next((slot.name for slot in schema.slots if slot.column == name), name)
    texts, tokens = [], []

    selected = [act.value for act in acts if act.name == "select"]
    for act in acts:
        if act.name == "select" and act.value != selected[0]:
            continue  # one sentence names them all
        known: dict[str, tuple[str, str]] = {
            slot: (value, schema.token(slot) if slot in sentences._called else f"[{schema.task.id}_{slot}]")
            for slot, value in values.items()
            if value
        }
        known["count"] = (str(count), "[value_count]")
        known["domain"] = (schema.task.id, schema.task.id)
        if name_slot in known:
            known["name"] = known[name_slot]
        if act.name == "select":
            listed = " , ".join(selected)
            known["name"] = listed, " , ".join([schema.token(act.slot)] * len(selected))
        if act.slot:
            known["slot"] = (schema.slot(act.slot).spoken,) * 2
            if act.value:
                known["value"] = (act.value, schema.token(act.slot))

        wanted = "unknown_value" if act.name == "inform" and act.slot and not act.value else act.name
        usable = [one for one in sentences.system(wanted, act.slot) if all(p in known for p in placeholders(one))]
        if not usable:
            usable = [one for one in SYSTEM.get(act.name, ()) if all(p in known for p in placeholders(one))]
        if not usable:
            continue

        chosen = random.choice(usable)
        texts.append(fill(chosen, {p: ("", known[p][0], "") for p in placeholders(chosen)}).text)
        tokens.append(fill(chosen, {p: ("", known[p][1], "") for p in placeholders(chosen)}).text)

    return Reply(" ".join(texts), " ".join(tokens))
