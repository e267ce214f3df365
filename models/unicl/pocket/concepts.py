"""Concepts of the Unicode emoji list: names, keywords and category.

The join key is the code point sequence in upper-case hex without FE0F. Sources (all npm): ``emoji-datasource-google``
for the list (MIT), ``emojilib`` for keywords (MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXCLUDED = ("Component",)
"""Components are parts of other pictographs."""

TRAIN_ONLY = ("People & Body", "Flags")
"""People differ by details that 64 pixels do not show, and a flag's name says nothing about how it looks."""

TEMPLATES = ("{}", "a picture of {}", "an icon of {}", "a drawing of {}", "a photo of {}")


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept; *core* ones are drawn in every style and are what measures are taken on."""

    code: str
    image: str
    name: str
    short_names: tuple[str, ...]
    keywords: tuple[str, ...]
    category: str
    subcategory: str
    core: bool

    def texts(self) -> list[str]:
        """Ways to say it, the plain name first: templates, short names, and the name with some of its keywords."""
        said = [template.format(self.name) for template in TEMPLATES]
        said += [short for short in self.short_names if short != self.name]
        words = [word for word in self.keywords if word != self.name]
        said += [f"{self.name}, {', '.join(words[start : start + 3])}" for start in range(0, min(len(words), 9), 3)]
        said += [f"{self.name}, {self.subcategory}", f"{words[0]} {self.name}" if words else self.name]
        return list(dict.fromkeys(said))


def code_of(sequence: str) -> str:
    """``1F600`` or ``0023-FE0F-20E3`` in any case to the join key."""
    return "-".join(part for part in sequence.upper().split("-") if part != "FE0F")


def read_concepts(emoji_json: Path, keywords_json: Path, also_drawn: list[Collection[str]]) -> list[Concept]:
    """All usable concepts in the list's order; *core* ones are drawn by every set of codes in ``also_drawn``."""
    rows = json.loads(emoji_json.read_bytes())
    keywords: dict[str, list[str]] = json.loads(keywords_json.read_bytes())
    by_code = {code_of("-".join(f"{ord(c):04X}" for c in emoji)): words for emoji, words in keywords.items()}
    usable = [
        row for row in rows if row["category"] not in EXCLUDED and row["has_img_google"] and row["has_img_twitter"]
    ]
    return [_concept(row, by_code.get(code_of(row["unified"]), []), also_drawn) for row in usable]


def _concept(row: dict[str, Any], words: list[str], also_drawn: list[Collection[str]]) -> Concept:
    code = code_of(row["unified"])
    spoken = [plain(word) for word in words if re.search(r"[a-z]{2}", word.lower())]
    short = tuple(dict.fromkeys(plain(name) for name in row["short_names"]))
    name = plain(row["name"])
    if row["subcategory"] == "keycap" or not name:
        name = f"keycap {short[0]}"  # the list calls every keycap by the bare word

    if row["category"] == "Flags":
        name = name.removesuffix(" flag") if name.startswith("flag") else f"flag of {name.removesuffix(' flag')}"
        spoken = []

    return Concept(
        code=code,
        image=row["image"],
        name=spoken[0] if spoken and row["subcategory"] != "keycap" else name,
        short_names=(name, *short),
        keywords=tuple(dict.fromkeys(spoken[1:])),
        category=row["category"],
        subcategory=row["subcategory"].replace("-", " "),
        core=row["category"] not in TRAIN_ONLY and all(code in drawn for drawn in also_drawn),
    )


def plain(text: str) -> str:
    """Lower case, words by single blanks."""
    return re.sub(r"[\s_\-]+", " ", text).strip(" :").lower()
