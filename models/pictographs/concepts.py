"""Concepts of the Unicode emoji list: names, keywords, category, and which of them no training may see.

The join key is the code point sequence in upper-case hex without FE0F. Sources (all npm): ``emoji-datasource-google``
for the list (MIT), ``emojilib`` for keywords (MIT).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch

EXCLUDED = ("Flags", "Component")
"""Flags are their own task, components are parts of other pictographs."""

TRAIN_ONLY = ("People & Body",)
"""Drawings of people differ by details that 64 pixels do not show."""

UNSEEN_SHARE = 0.2
UNSEEN_SEED = 1234

TEMPLATES = ("{}", "a picture of {}", "an icon of {}", "a drawing of {}", "a photo of {}")


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept; ``unseen`` ones are held out of every training, by any style and any text."""

    code: str
    image: str
    name: str
    short_names: tuple[str, ...]
    keywords: tuple[str, ...]
    category: str
    subcategory: str
    core: bool
    unseen: bool

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


def read_concepts(emoji_json: Path, keywords_json: Path, also_drawn: list[set[str]]) -> list[Concept]:
    """All usable concepts in the list's order; *core* ones are drawn by every set of codes in ``also_drawn``.

    A fifth of the core is unseen, drawn with a fixed generator: the same split whatever else is installed.
    """
    rows = json.loads(emoji_json.read_bytes())
    keywords: dict[str, list[str]] = json.loads(keywords_json.read_bytes())
    by_code = {code_of("-".join(f"{ord(c):04X}" for c in emoji)): words for emoji, words in keywords.items()}
    usable = [
        row for row in rows if row["category"] not in EXCLUDED and row["has_img_google"] and row["has_img_twitter"]
    ]
    usable = [row for row in usable if code_of(row["unified"]) in also_drawn[0]]
    core = [
        row["category"] not in TRAIN_ONLY and all(code_of(row["unified"]) in drawn for drawn in also_drawn)
        for row in usable
    ]
    places = [index for index, inside in enumerate(core) if inside]
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(UNSEEN_SEED)).tolist()
    unseen = {places[index] for index in order[: int(UNSEEN_SHARE * len(places))]}
    return [
        _concept(row, by_code.get(code_of(row["unified"]), []), core[index], index in unseen)
        for index, row in enumerate(usable)
    ]


def _concept(row: dict[str, object], words: list[str], core: bool, unseen: bool) -> Concept:
    spoken = [_plain(word) for word in words if re.search(r"[a-z]{2}", word.lower())]
    short = tuple(dict.fromkeys(_plain(str(name)) for name in row["short_names"]))  # type: ignore[attr-defined]
    name = _plain(str(row["name"]))
    if row["subcategory"] == "keycap" or not name:
        name = f"keycap {short[0]}"  # the list calls every keycap by the bare word
    return Concept(
        code_of(str(row["unified"])),
        str(row["image"]),
        spoken[0] if spoken and row["subcategory"] != "keycap" else name,
        (name, *short),
        tuple(dict.fromkeys(spoken[1:])),
        str(row["category"]),
        str(row["subcategory"]).replace("-", " "),
        core,
        unseen,
    )


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-]+", " ", text).strip(" :").lower()
