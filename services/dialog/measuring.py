"""How well a version does: its beliefs against annotated dialogs, and whole dialogs with simulated users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from services.dialog.acts import Act
from services.dialog.bot import Bot
from services.dialog.simulator.dialog import Dialog
from services.dialog.simulator.goals import Goals
from services.dialog.simulator.run import MOST_TURNS
from services.dialog.simulator.texts import Texts
from services.dialog.simulator.user import User
from services.dialog.tracking import update
from services.dialog.understanding.heads import Floats
from services.dialog.understanding.space import Offsets

Encode = Callable[[Sequence[str]], Sequence[tuple[Floats, Offsets, Floats]]]
"""Texts to features of tokens, what each stands for, and the sentence's embedding."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """``joint_goal`` is the share of turns with the whole belief right; ``slot_f1`` over its values; ``acts`` the share
    of turns with exactly the right acts, values aside."""

    turns: int
    joint_goal: float
    slot_f1: float
    acts: float


@dataclass(frozen=True, slots=True)
class TaskSuccess:
    """Whole dialogs. ``fallbacks`` is the share of turns in which the bot asked again."""

    dialogs: int
    success: float
    turns: float
    fallbacks: float


def track(bot: Bot, dialogs: Iterable[Dialog], encode: Encode) -> Tracking:
    """Run a version over what simulated or taught users said; the bot's side stays as it was annotated."""
    held = list(dialogs)
    encoded = iter(encode([turn.user for dialog in held for turn in dialog.turns]))
    total = whole = same_acts = found = wanted = hit = 0
    for dialog in held:
        belief: dict[str, str] = {}
        standing = bot.begin()
        system: tuple[Act, ...] = ()
        for turn in dialog.turns:
            tokens, offsets, sentence = next(encoded)
            here = type(standing)(belief, system, standing.policy, standing.turn)
            understood = bot.understand(turn.user, tokens, offsets, sentence, here)
            belief = update(belief, understood.acts, system)
            total += 1
            whole += belief == dict(turn.belief)
            same_acts += {act.key for act in understood.acts} == {act.key for act in turn.user_acts}
            found, wanted = found + len(belief), wanted + len(turn.belief)
            hit += len(belief.items() & dict(turn.belief).items())
            system = turn.system_acts
    precision, recall = hit / max(found, 1), hit / max(wanted, 1)
    f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
    return Tracking(total, whole / max(total, 1), f1, same_acts / max(total, 1))


def succeed(bot: Bot, dialogs: int, seed: int, encode: Encode, step: Callable[[], None] = lambda: None) -> TaskSuccess:
    """Let simulated users talk to the bot in words; what a goal asks for must really have been had."""
    goals, texts = Goals(bot.schema, bot.table), Texts(bot.schema)
    reached = turns = fallbacks = 0
    for number in range(dialogs):
        random = Random(f"success/{seed}/{number}")  # noqa: S311 - to be repeated
        user, standing = User(goals.draw(random), random), bot.begin()
        for _ in range(MOST_TURNS):
            acts = user.turn(standing.system, standing.belief)
            said = texts.say(acts, standing.system, random)
            (features,) = encode([said.text])
            understood = bot.understand(said.text, *features, standing)
            answered = bot.turn(standing, understood, lambda action, slots: dict.fromkeys(action.results, "done"))
            standing = answered.standing
            turns += 1
            fallbacks += answered.fallback
            if user.done or answered.done:
                break
        reached += user.satisfied
        step()
    return TaskSuccess(dialogs, reached / max(dialogs, 1), turns / max(dialogs, 1), fallbacks / max(turns, 1))
