"""The ``simulate`` and ``train-bot`` kinds: dialogs made from a bot's schema, and a version learnt from them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.repository.reading import versions_of
from services.dialog.store import BotRecord, BotStore
from services.errors import Kind, Problem
from services.jobs.kind import JobKind
from services.jobs.services import JobServices

ENCODER = "minilm-l6-tokens"
"""The model whose features heads are fitted to."""


class SimulateParameters(BaseModel):
    """What is simulated."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"bot": "restaurants", "dialogs": 1000}]})

    bot: str = Field(min_length=1, max_length=64, description="A bot of yours, by id or name")
    dialogs: int = Field(1_000, ge=1, le=100_000, description="How many")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="The same seed gives the same dialogs")


class TrainBotParameters(BaseModel):
    """What a version is learnt from: dialogs simulated anew, and everything that was taught."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"bot": "restaurants"}]})

    bot: str = Field(min_length=1, max_length=64, description="A bot of yours, by id or name")
    dialogs: int = Field(1_000, ge=0, le=50_000, description="Simulated dialogs to learn from")
    turns: int = Field(4_000, ge=100, le=10_000, description="Of their turns, at most so many that differ")
    taught_weight: float = Field(4.0, ge=0, le=100, description="How much a taught turn counts beside a simulated one")
    epochs: int = Field(12, ge=1, le=100)
    measured: int = Field(100, ge=1, le=500, description="Dialogs that the version is measured by, all held out")
    seed: int = Field(0, ge=0, le=2**31 - 1)


def bot_store(services: JobServices) -> BotStore:
    """The bots of a process, over what it has open already."""
    return BotStore(services.engine, services.artifacts)


def _bot(services: JobServices, owner: str, reference: str) -> BotRecord:
    try:
        bot = bot_store(services).get(owner, reference)
    except Problem as problem:
        raise problem.at("/parameters/bot") from None
    if "database" in bot.schema and bot.schema["database"] and bot.rows_artifact is None:
        raise Problem(
            Kind.CONFLICT,
            "bot-without-rows",
            "The bot has no rows yet",
            f"The schema of {bot.name!r} describes a database, and there is none.",
            pointer="/parameters/bot",
            remedy=f"Send it: PUT /v1/bots/{bot.id}/database.",
        )
    return bot


def check_simulation(services: JobServices, owner: str, parameters: SimulateParameters) -> None:
    """Refuse a bot that is not there, or has nothing to speak of."""
    _bot(services, owner, parameters.bot)


def check_training(services: JobServices, owner: str, parameters: TrainBotParameters) -> None:
    """The same, and a machine without the encoder."""
    _bot(services, owner, parameters.bot)
    if not versions_of(services.settings.models_dir, ENCODER):
        raise no_encoder()


def no_encoder() -> Problem:
    """The machine lacks the model whose features heads are fitted to."""
    return Problem(
        Kind.CONFLICT,
        "encoder-missing",
        "The encoder of task bots is not installed",
        f"There is no model {ENCODER!r}.",
        remedy=f"sightline models pull {ENCODER}",
    )


SIMULATE = JobKind("simulate", "default", SimulateParameters, check=check_simulation)
TRAIN_BOT = JobKind("train-bot", "finetune", TrainBotParameters, check=check_training)
KINDS = (SIMULATE, TRAIN_BOT)
