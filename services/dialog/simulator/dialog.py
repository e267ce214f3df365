"""A dialog with all that is known of it, and its two forms on paper: SOLOIST's lines, and a text to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from services.dialog.acts import Act, Belief
from services.dialog.sentences import Span


@dataclass(frozen=True, slots=True)
class Goal:
    """What a simulated user wants. ``constraints`` and ``relaxed`` (for when nothing fits) hold values by slot, with
    ``dont care``; ``requests`` are slots to ask for, ``booking`` values for ``action``, empty without one."""

    constraints: Mapping[str, str]
    requests: tuple[str, ...] = ()
    action: str = ""
    booking: Mapping[str, str] = field(default_factory=dict)
    relaxed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's text and the bot's answer. ``belief`` is after the user's text; ``matches`` how many rows fit it."""

    user: str
    user_acts: tuple[Act, ...]
    spans: tuple[Span, ...]
    belief: Belief
    matches: int
    system_acts: tuple[Act, ...]
    system: str
    delexicalised: str
    path: tuple[str, ...] = ()
    edges: tuple[int, ...] = ()
    action: str = ""
    offered: str = ""


@dataclass(frozen=True, slots=True)
class Dialog:
    """``success``: the user got what the goal asks for, and the action was done where there is one."""

    id: str
    goal: Goal
    turns: tuple[Turn, ...]
    success: bool

    def document(self) -> dict[str, Any]:
        """As JSON, all of it."""
        document = asdict(self)
        for turn, kept in zip(self.turns, document["turns"], strict=True):
            kept["user_acts"] = [list(act) for act in turn.user_acts]
            kept["system_acts"] = [list(act) for act in turn.system_acts]
        return document

    def readable(self) -> str:
        """To read: a line a speaker, with the belief beside the user's."""
        lines = [f"# {self.id}  {'reached its goal' if self.success else 'did not reach its goal'}"]
        for turn in self.turns:
            belief = " ; ".join(f"{slot} = {value}" for slot, value in turn.belief.items()) or "none"
            lines += [f"user    {turn.user}", f"        [{belief}] {turn.matches} match", f"bot     {turn.system}"]
        return "\n".join(lines) + "\n"

    def soloist(self, domain: str) -> Iterator[dict[str, Any]]:
        """A training line a turn, in SOLOIST's form (reference: synergy digest 1.3): the history holds the bot's turns
        delexicalised, the belief is written slot by slot, the knowledge base as a bucket of its count."""
        history: list[str] = []
        for turn in self.turns:
            history.append(f"user : {turn.user}")
            belief = " ; ".join(f"{slot} = {value}" for slot, value in turn.belief.items())
            yield {
                "history": list(history),
                "belief": f"belief : {domain} {belief}" if belief else "belief : none",
                "kb": f"kb : {domain} {count_in_words(turn.matches)}",
                "reply": f"system : {turn.delexicalised}",
                "dp": "dp : " + " ".join(str(act) for act in turn.system_acts),
                "name": f"{self.id}.json",
            }
            history.append(f"system : {turn.delexicalised}")


def count_in_words(count: int) -> str:
    """SOLOIST's bucket of a count; five stays a digit there.

    >>> [count_in_words(count) for count in (0, 4, 5, 6)]
    ['zero', 'four', '5', 'more than five']
    """
    words = ("zero", "one", "two", "three", "four", "5")
    return words[count] if count < len(words) else "more than five"
