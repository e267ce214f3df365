"""How well a bot made from a schema alone tracks what people said: ``python -m speed.dialog_tracking --data FOLDER``.

``FOLDER`` is CamRest676 (``train.json.gz``, ``valid.json.gz``). The bot is the ready schema ``restaurant``; it learns
from simulated dialogs, and with ``--taught N`` from the first N dialogs of the training part too. The bot's side of a
dialog is the human's: its acts are what CamRest annotates of it.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from services.dialog.acts import DONT_CARE, Act
from services.dialog.examples import Example, distinct, examples
from services.dialog.ready import ready_bot
from services.dialog.sentences import Span
from services.dialog.simulator import simulate
from services.dialog.tracking import update
from services.dialog.training.features import Encoder, Features
from services.dialog.training.fit import Settings, fit
from services.dialog.understanding import Reader, Space
from services.settings import Settings as Platform

SLOTS = ("food", "area", "pricerange")


@dataclass(frozen=True, slots=True)
class Said:
    """A human's turn: the text, what the bot had done, and what is believed after it."""

    dialog: int
    text: str
    system: tuple[Act, ...]
    belief: Mapping[str, str]
    new: Mapping[str, str]


def read(file: Path) -> Iterator[Said]:
    """Every user's turn of CamRest676, with its belief over the three slots of a search."""
    for number, dialog in enumerate(orjson.loads(gzip.decompress(file.read_bytes()))):
        system: tuple[Act, ...] = ()
        before: dict[str, str] = {}
        for turn in dialog["dial"]:
            belief = _belief(turn["usr"]["slu"])
            new = {slot: value for slot, value in belief.items() if before.get(slot) != value}
            yield Said(number, turn["usr"]["transcript"], system, belief, new)
            asked = [Act("request", slot) for slot in turn["sys"]["DA"] if slot in SLOTS]
            system = tuple(asked) if asked and "?" in turn["sys"]["sent"] else (Act("offer"),)
            before = belief


def _belief(annotated: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    informed = [slot for act in annotated if act["act"] == "inform" for slot in act["slots"]]
    return {slot: value.replace("dontcare", DONT_CARE) for slot, value in informed if slot in SLOTS}


def taught(turns: Sequence[Said], weight: float) -> Iterator[Example]:
    """Human turns as a teacher would correct them: the acts that make the belief, spans where values stand."""
    for turn in turns:
        acts, spans = [], []
        for slot, value in turn.new.items():
            acts.append(Act("dont_care", slot) if value == DONT_CARE else Act("inform", slot, value))
            place = turn.text.lower().find(value)
            if place >= 0:
                spans.append(Span(slot, place, place + len(value), value))
        if acts:
            yield Example(turn.text, turn.system, tuple(acts), tuple(spans), weight)


def joint_goal(reader: Reader, turns: Sequence[Said], features: Sequence[Features]) -> float:
    """Share of turns after which the whole belief is right."""
    right, belief, dialog = 0, dict[str, str](), -1
    for turn, found in zip(turns, features, strict=True):
        if turn.dialog != dialog:
            belief, dialog = {}, turn.dialog
        understood = reader.read(turn.text, found.tokens, found.offsets, turn.system)
        belief = update(belief, understood.acts, turn.system)
        right += {slot: value for slot, value in belief.items() if slot in SLOTS} == turn.belief
    return right / len(turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Platform().models_dir)
    parser.add_argument("--dialogs", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=4_000)
    parser.add_argument("--taught", type=int, nargs="*", default=[0, 50])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    asked = parser.parse_args()

    torch.set_num_threads(1)
    schema, table = ready_bot("restaurant")
    encoder, space = Encoder(asked.models / "minilm-l6-tokens" / "1"), Space.of(schema)
    shown = list(read(asked.data / "train.json.gz"))
    held = list(read(asked.data / "valid.json.gz"))
    texts = list(dict.fromkeys(turn.text for turn in [*shown, *held]))
    known = dict(zip(texts, encoder.encode(texts), strict=True))

    for seed in asked.seeds:
        simulated = distinct(examples(simulate(schema, table, asked.dialogs, seed)), asked.turns)
        fresh = [text for text in dict.fromkeys(turn.text for turn in simulated) if text not in known]
        known |= dict(zip(fresh, encoder.encode(fresh), strict=True))
        for count in asked.taught:
            turns = [*simulated, *taught([turn for turn in shown if turn.dialog < count], 4.0)]
            heads = fit(space, turns, [known[turn.text] for turn in turns], Settings(seed=seed))
            reader = Reader(schema, table, heads)
            score = joint_goal(reader, held, [known[turn.text] for turn in held])
            print(f"seed {seed}  taught {count:3}  joint goal {100 * score:.1f}  of {len(held)} turns", flush=True)


if __name__ == "__main__":
    main()
