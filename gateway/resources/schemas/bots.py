"""Bodies of ``/v1/bots`` and ``/v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from gateway.request.body import Answer, Body, PlainText

BotName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

_CAFE = {
    "task": {"id": "cafe"},
    "slots": [{"name": "area", "type": "categorical", "values": ["north", "south"]}],
    "flow": {
        "start": "start",
        "nodes": [
            {"id": "start", "kind": "branch"},
            {"id": "ask", "kind": "request", "slots": ["area"]},
            {"id": "bye", "kind": "bye"},
        ],
        "edges": [
            {"from": "start", "to": "ask", "when": {"missing": ["area"]}},
            {"from": "start", "to": "bye"},
            {"from": "ask", "to": "bye"},
        ],
    },
}


class Rows(Body):
    """Rows of a database, by column."""

    rows: Annotated[list[dict[str, str | int | float | bool | None]], Field(max_length=100_000)]


class BotBody(Body):
    """What a bot is made from. ``rows`` may follow: ``PUT /v1/bots/{id}/database`` takes CSV, JSON and SQLite files."""

    name: BotName = Field(description="What to call it; the model `bot:NAME` of chat completions", examples=["cafes"])
    task_schema: dict[str, Any] = Field(
        alias="schema", description="Slots, database, flow, actions, sentences: see docs/bots.md", examples=[_CAFE]
    )
    rows: Annotated[list[dict[str, str | int | float | bool | None]], Field(max_length=100_000)] | None = Field(
        None, description="Rows of the database, where there are few enough for a body"
    )

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class ChangeBody(Body):
    """Another schema for the versions to come."""

    task_schema: dict[str, Any] = Field(alias="schema", examples=[_CAFE])

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class ServeBody(Body):
    """How a version gets to users."""

    canary_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Give it to this share of new sessions only; to all when absent"
    )
    force: bool = Field(False, description="Promote it though it does worse on what was taught")


class SessionBody(Body):
    """Which version to talk to."""

    version: Annotated[int, Field(ge=1)] | None = Field(None, description="The one that is served when absent")


class TurnBody(Body):
    """What a user says."""

    text: Annotated[str, Field(max_length=100_000)] = Field(examples=["a cheap place in the north"])
    turn: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Its number, from 0: sent again it is answered as before, and two at once are told apart"
    )


class ActBody(Body):
    """One thing that a user did."""

    name: PlainText = Field(examples=["inform"])
    slot: Annotated[str, Field(max_length=40)] = Field("", examples=["area"])
    value: Annotated[str, Field(max_length=500)] = Field("", examples=["north"])
    words: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="How the value stands in the text, where that is not the value itself", examples=["up north"]
    )


class CorrectionBody(Body):
    """What a turn means."""

    acts: Annotated[list[ActBody], Field(min_length=1, max_length=50)]
    preview: bool = Field(False, description="Keep nothing; tell which logged turns would be read otherwise")


class ReviewBody(Body):
    """What a teacher thinks of a dialog."""

    status: Literal["unreviewed", "approved", "rejected"]


class BranchBody(Body):
    """Where a new session begins."""

    turn: Annotated[int, Field(ge=0)] = Field(description="It stands where this turn began")


class ChatMessage(Body):
    """One message, as OpenAI's API has them."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    model_config = ConfigDict(extra="ignore", strict=True)


class StreamOptions(Body):
    """Of a streamed answer."""

    include_usage: bool = False

    model_config = ConfigDict(extra="ignore", strict=True)


class ChatBody(Body):
    """A chat completion with a bot. Fields that only a language model has a use for are taken and not used."""

    model: Annotated[PlainText, Field(max_length=80)] = Field(description="`bot:NAME`", examples=["bot:restaurants"])
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=400)] = Field(
        examples=[[{"role": "user", "content": "a cheap place in the north"}]]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = Field(None, description="Actions of the bot that the caller carries out")
    tool_choice: Any = None
    metadata: dict[str, str] | None = Field(
        None, description="`session_id`: go on with that session instead of reading the whole dialog again"
    )

    model_config = ConfigDict(extra="ignore", strict=True)


class Bot(Answer):
    """A bot. ``schema`` is left out of lists."""

    id: str
    object: Literal["bot"]
    name: str
    serving: int | None = Field(description="The version that new sessions get")
    canary: int | None
    canary_share: float
    rows: bool = Field(description="Whether it has a database")
    created_at: float
    updated_at: float
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    findings: list[dict[str, str]] | None = Field(None, description="What will not work as somebody might hope")


class BotList(Answer):
    """Bots of a key, the newest first."""

    object: Literal["list"]
    data: list[Bot]
    has_more: bool


class BotVersion(Answer):
    """A version, which never changes."""

    id: str
    object: Literal["bot.version"]
    bot: str
    version: int
    engine: str
    encoder: str
    measured: dict[str, Any]
    job: str
    serving: bool
    created_at: float


class BotVersionList(Answer):
    """Versions of a bot, the newest first."""

    object: Literal["list"]
    data: list[BotVersion]
    has_more: bool


class Findings(Answer):
    """What is wrong with a schema, or will not work."""

    object: Literal["bot.validation"]
    valid: bool
    findings: list[dict[str, str]]


class Session(Answer):
    """A dialog with a bot."""

    id: str
    object: Literal["bot.session"]
    bot: str
    version: int
    turn: int = Field(description="The number of the next turn")
    closed: bool
    status: str
    outcome: str
    confidence: float = Field(description="Of its least sure turn")
    belief: dict[str, str]
    created_at: float
    used_at: float


class SessionList(Answer):
    """Dialogs, the newest first."""

    object: Literal["list"]
    data: list[Session]
    has_more: bool


class TurnAnswer(Answer):
    """A turn that was answered."""

    id: str
    object: Literal["bot.turn"]
    session: str
    turn: int
    text: str
    response: str
    delexicalised: str
    belief: dict[str, str]
    belief_delta: dict[str, str | None]
    database: dict[str, Any]
    user_acts: list[dict[str, str]]
    system_acts: list[dict[str, str]]
    action: dict[str, Any] | None
    flow: list[str]
    confidence: float
    fallback: bool
    done: bool
    stale: bool
    model: str
    version: int


class TurnList(Answer):
    """Turns of a session, in their order."""

    object: Literal["list"]
    data: list[TurnAnswer]
    has_more: bool


class Correction(Answer):
    """A correction that was kept, or what it would change."""

    object: Literal["bot.correction"]
    id: str | None
    session: str
    turn: int
    acts: list[dict[str, str]]
    was: list[dict[str, str]]
    stale_turns: list[int] = Field(description="Later turns of the session, which began from the mistake")
    would_change: list[dict[str, Any]] | None = None


class ChatCompletion(Answer):
    """As OpenAI's API answers, with the turn under ``sightline``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    sightline: dict[str, Any]


BODIES = (BotBody, ChangeBody, ServeBody, SessionBody, TurnBody, CorrectionBody, ReviewBody, BranchBody, ChatBody)
"""What the document of the API has to describe beside answers."""
