"""Does a simulation: SOLOIST's lines, the dialogs to read, and what they cover, as artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from services.dialog.kind import SimulateParameters, bot_store
from services.dialog.simulator.coverage import coverage
from services.dialog.simulator.dialog import Dialog
from services.dialog.simulator.run import simulate
from services.jobs.context import JobContext

_EVERY = 50


def run(ctx: JobContext[SimulateParameters]) -> Mapping[str, Any]:
    """See :class:`services.dialog.kind.SimulateParameters`. Quick enough to begin again after a death."""
    asked, store = ctx.parameters, bot_store(ctx.services)
    bot = store.get(ctx.owner, asked.bot)
    schema, table = store.read(bot.schema, bot.rows_artifact)

    with (
        ctx.artifact("dialogs.jsonl", "application/x-ndjson") as lines,
        ctx.artifact("dialogs.txt", "text/plain; charset=utf-8") as to_read,
        ctx.artifact("annotated.jsonl", "application/x-ndjson") as annotated,
    ):

        def written() -> Iterator[Dialog]:
            """Each dialog goes to the disk as it comes: none is kept."""
            for number, dialog in enumerate(simulate(schema, table, asked.dialogs, asked.seed), 1):
                for line in dialog.soloist(schema.task.id):
                    lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                to_read.write((dialog.readable() + "\n").encode())
                annotated.write(orjson.dumps(dialog.document(), option=orjson.OPT_APPEND_NEWLINE))
                if number % _EVERY == 0:
                    ctx.step(number, asked.dialogs, message="simulating")
                yield dialog

        report = coverage(schema, written())

    ctx.step(asked.dialogs, asked.dialogs, message="done")
    return {"bot": bot.id, "seed": asked.seed, "coverage": asdict(report)}
