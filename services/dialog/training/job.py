"""Does a training: dialogs from the schema, turns that were taught, heads, figures, a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from models.repository.reading import latest
from services.dialog.bot import Bot
from services.dialog.examples import Example, distinct, examples
from services.dialog.kind import ENCODER, TrainBotParameters, bot_store, no_encoder
from services.dialog.measuring import Encode, succeed, track
from services.dialog.simulator.run import simulate
from services.dialog.store import Made
from services.dialog.teaching import TeachingStore
from services.dialog.training.features import Encoder, Features
from services.dialog.training.fit import Settings, fit
from services.dialog.understanding.heads import Floats
from services.dialog.understanding.space import Offsets, Space
from services.jobs.context import JobContext

_HELD_SEED = 10_000_019
"""Dialogs to measure by are drawn from another seed than those to learn from."""


def run(ctx: JobContext[TrainBotParameters]) -> Mapping[str, Any]:
    """See :class:`services.dialog.kind.TrainBotParameters`. A few minutes, begun again after a death."""
    asked, store = ctx.parameters, bot_store(ctx.services)
    bot = store.get(ctx.owner, asked.bot)
    schema, table = store.read(bot.schema, bot.rows_artifact)
    total = asked.epochs + 3

    ctx.step(0, total, message="simulating")
    learnt = distinct(examples(simulate(schema, table, asked.dialogs, asked.seed)), asked.turns)
    corrections = TeachingStore(ctx.services.engine).all(bot)
    taught = [replace(one.example(), weight=asked.taught_weight) for one in corrections]
    held = list(simulate(schema, table, asked.measured, asked.seed + _HELD_SEED))

    folder = latest(ctx.settings.models_dir, ENCODER)
    if folder is None:
        raise no_encoder()
    encoder = Encoder(folder)
    space = Space.of(schema)
    turns = [*learnt, *taught]
    features = _features(
        encoder, turns, lambda done, of: ctx.step(1, total, message=f"reading {done:,} of {of:,} texts")
    )

    def told(done: int, of: int, metrics: Mapping[str, float]) -> None:
        ctx.step(1 + done, total, message="fitting", metrics=metrics)

    heads = fit(space, turns, features, Settings(epochs=asked.epochs, seed=asked.seed), told)

    ctx.step(total - 1, total, message="measuring")
    version_bot = Bot(schema, table, heads)
    encode = encoding(encoder)
    tracking = track(version_bot, held, encode)
    success = succeed(version_bot, asked.measured // 2 + 1, asked.seed, encode, ctx.step)
    regression = _regression(version_bot, taught, encode)

    measured = {
        "simulated": asdict(tracking),
        "success": asdict(success),
        "taught": regression,
        "turns": len(turns),
        "taught_turns": len(taught),
        "parameters": asked.model_dump(mode="json"),
    }
    ctx.confirm()
    made = store.add_version(
        bot, Made(bot.schema, bot.rows_artifact, heads, f"{ENCODER}@{folder.name}", measured, ctx.job_id)
    )
    TeachingStore(ctx.services.engine).taken_up([one.id for one in corrections], made.number)
    return {"bot": bot.id, "name": bot.name, "version": made.number, "measured": measured}


def _features(encoder: Encoder, turns: Sequence[Example], step: Any) -> list[Features]:
    texts = list(dict.fromkeys(turn.text for turn in turns))
    found = dict(zip(texts, encoder.encode(texts, step), strict=True))
    return [found[turn.text] for turn in turns]


def encoding(encoder: Encoder) -> Encode:
    """``encoder`` as measuring wants it."""

    def encode(texts: Sequence[str]) -> list[tuple[Floats, Offsets, Floats]]:
        return [(found.tokens, found.offsets, found.sentence) for found in encoder.encode(texts)]

    return encode


def _regression(bot: Bot, taught: Sequence[Example], encode: Encode) -> dict[str, float]:
    """Share of taught turns that the heads alone read as they were taught."""
    if not taught:
        return {"turns": 0, "right": 1.0}
    encoded = encode([one.text for one in taught])
    right = []
    for one, (tokens, offsets, sentence) in zip(taught, encoded, strict=True):
        standing = replace(bot.begin(), system=one.system)
        understood = bot.understand(one.text, tokens, offsets, sentence, standing)
        right.append(set(understood.acts) == set(one.acts))
    return {"turns": len(taught), "right": float(np.mean(right))}
