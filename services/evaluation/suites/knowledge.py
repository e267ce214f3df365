"""What is known of classes beyond their names, and the prompts that say it (K-LITE, ELEVATER section 4).

Reference: ``extract_text_features`` of Elevater_Toolkit_IC with ``KNOWLEDGE.*``. A prompt is a filled template followed
by ``; <class> , <knowledge>``, tokenised and joined by blanks; there is one for each piece of knowledge and template.
The reference splits words with NLTK; here a regular expression does, which differs in contractions only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import Kind, Problem
from services.evaluation.protocols import KnowledgeSource

HIERARCHY_STEPS = 3
_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class ClassKnowledge:
    """What is known of one class; empty where nothing is."""

    wiktionary: str = ""
    definition: str = ""
    path: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    def joined(self, other: ClassKnowledge) -> ClassKnowledge:
        """Both, this one first where both say something."""
        return ClassKnowledge(
            self.wiktionary or other.wiktionary,
            self.definition or other.definition,
            self.path or other.path,
            self.sentences or other.sentences,
        )


def read_knowledge(text: bytes | str, where: str) -> dict[str, ClassKnowledge]:
    """By class name. Raises ``knowledge-unreadable``.

    ``text`` is a JSON list of ELEVATER's entries (``classname`` with ``def_wiki``, ``path_wn``, ``def_wn``, ``gpt3``),
    or an object of class names and one sentence or a list of them.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _unreadable(f"{where} is not JSON: {error}.") from error

    if isinstance(content, Mapping):
        content = [
            {"classname": name, "gpt3": [said] if isinstance(said, str) else said} for name, said in content.items()
        ]

    if not isinstance(content, list):
        raise _unreadable(f"{where} holds neither a list nor an object.")

    found: dict[str, ClassKnowledge] = {}
    for position, entry in enumerate(content):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("classname"), str):
            raise _unreadable(f"{where}: entry {position} has no 'classname'.")
        own = ClassKnowledge(
            _text(entry.get("def_wiki")),
            _text(entry.get("def_wn")),
            _texts(entry.get("path_wn")),
            _texts(entry.get("gpt3")),
        )
        found[entry["classname"]] = found.get(entry["classname"], ClassKnowledge()).joined(own)

    return found


def pieces(known: ClassKnowledge, source: KnowledgeSource, gpt3_items: int) -> tuple[str, ...]:
    """The pieces of knowledge that ``source`` takes, none where nothing is known."""
    wiki = tuple(filter(None, (known.wiktionary,)))
    sentences = known.sentences[:gpt3_items]

    match source:
        case "wiktionary":
            return wiki
        case "wordnet_definition":
            return tuple(filter(None, (known.definition,)))
        case "wordnet_hierarchy":
            return tuple(filter(None, (" ".join(known.path[:HIERARCHY_STEPS]),)))
        case "gpt3":
            return sentences
        case "wiki_and_gpt3":
            return (*wiki, *sentences)
        case "wiki_then_gpt3":
            return wiki or sentences


def pieces_of_toolkit(known: ClassKnowledge, source: KnowledgeSource, gpt3_items: int) -> tuple[str | None, ...]:
    """The same with the toolkit's quirks, for a class that its files list.

    A class that Wiktionary does not define has one piece, the bare prompt (``None``), which stands beside GPT-3's
    sentences and keeps them from taking its place. One that WordNet does not know has an empty piece.
    """
    wiki, sentences = known.wiktionary or None, known.sentences[:gpt3_items]
    match source:
        case "wiktionary" | "wiki_then_gpt3":
            return (wiki,)
        case "wordnet_definition":
            return (known.definition,)
        case "wordnet_hierarchy":
            return (" ".join(known.path[:HIERARCHY_STEPS]),)
        case "gpt3":
            return sentences
        case "wiki_and_gpt3":
            return (wiki, *sentences)


def prompts(name: str, templates: Sequence[str], said: Sequence[str | None]) -> list[str]:
    """Every template with ``name``, once for each of ``said``, or bare where nothing (``None``) is said."""
    filled = [template.replace("{}", name) for template in templates]
    tails = ["" if piece is None else " " + " ".join(_WORD.findall(f" ; {name} , {piece}")) for piece in said or [None]]
    return [text + tail for tail in tails for text in filled]


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list) else ()


def _unreadable(detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "knowledge-unreadable",
        "The knowledge of the classes cannot be read",
        detail,
        pointer="/parameters/knowledge",
        remedy='Send a JSON list of {"classname", "def_wiki", "path_wn", "def_wn"} or {"classname", "gpt3": [...]}, '
        'or an object {"class name": ["sentence", ...]}.',
    )
