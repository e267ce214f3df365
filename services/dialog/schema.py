"""A task as a person writes it down: slots, database, dialog flow, actions, sentences.

The form is ours (SYNERGY's was never published); it holds what the paper calls symbolic knowledge. What a schema must
be beyond its form, such as a flow that can be walked, is checked in :mod:`services.dialog.checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SlotType = Literal["categorical", "free", "time", "date", "number", "bool"]
ColumnType = Literal["text", "number", "time", "date", "bool"]
Operator = Literal["eq", "le", "ge", "fuzzy"]
NodeKind = Literal[
    "branch", "request", "inform", "confirm", "offer", "select", "call",
    "notify_success", "notify_failure", "no_match", "bye",
]  # fmt: skip

SPEAKING = ("request", "inform", "confirm", "offer", "select", "notify_success", "notify_failure", "no_match", "bye")
"""Kinds of node that end the bot's turn: the user speaks next. ``branch`` and ``call`` are passed through."""

Matches = Literal["zero", "one", "few", "many"]
"""How many rows the belief leaves: 0, 1, 2 to ``few`` of the database, more."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Sentences = Annotated[list[Text], Field(min_length=1, max_length=200)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Data):
    """``id`` is the domain in beliefs and delexicalised tokens."""

    id: Name
    version: str = Field(default="1", max_length=40)
    language: Literal["en"] = "en"
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2_000)


class Slot(_Data):
    """Something a user can say (``informable``) or ask for (``requestable``).

    ``column`` is where the database has it; a categorical slot has ``values`` or takes those of its column.
    ``called`` is how people speak of it ("kind of food"), ``synonyms`` how they say its values.
    """

    name: Name
    type: SlotType = "free"
    column: str | None = Field(default=None, max_length=100)
    values: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = None
    informable: bool = True
    requestable: bool = False
    called: Annotated[list[Text], Field(max_length=20)] = []
    synonyms: dict[str, Annotated[list[Text], Field(max_length=50)]] = {}
    minimum: float | None = None
    maximum: float | None = None

    @property
    def spoken(self) -> str:
        """How it is called in a sentence."""
        return self.called[0] if self.called else self.name.replace("_", " ")


class Database(_Data):
    """One table. ``name`` is the column by which people know a row; ``operators`` say how a slot's value is compared
    with its column, ``eq`` where nothing is said. Up to ``few`` rows are few enough to choose from."""

    table: Name
    primary_key: str = Field(max_length=100)
    name: str = Field(max_length=100)
    columns: dict[str, ColumnType] = Field(min_length=1, max_length=200)
    operators: dict[str, Operator] = {}
    few: int = Field(default=4, ge=2, le=20)


class Guard(_Data):
    """What must hold for an edge to be taken: all that is given.

    ``filled`` and ``missing`` name slots of the belief (one that anything is right for counts as filled), ``matches``
    how many rows are left, ``user`` acts of which the user did one, by name or with a slot (``request(phone)``),
    ``offered`` whether an entity is offered now, ``called`` and ``failed`` actions that ended well or badly.
    """

    filled: list[Name] = []
    missing: list[Name] = []
    matches: list[Matches] = []
    user: list[str] = []
    offered: bool | None = None
    called: list[Name] = []
    not_called: list[Name] = []
    failed: list[Name] = []


class Node(_Data):
    """A step of the flow. ``slots`` is what is requested, told or confirmed, ``action`` what is called."""

    id: Name
    kind: NodeKind
    slots: list[Name] = []
    action: Name | None = None


class Edge(_Data):
    """From one node to another; of a node's edges the first whose guard holds is taken."""

    source: Name = Field(alias="from")
    target: Name = Field(alias="to")
    when: Guard = Guard()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Flow(_Data):
    """The dialog as a graph. Every turn of the bot begins with the edges of the node at which the last one ended."""

    start: Name
    nodes: Annotated[list[Node], Field(min_length=1, max_length=500)]
    edges: Annotated[list[Edge], Field(max_length=5_000)] = []


class Action(_Data):
    """Something done for the user, as a booking: needs ``required`` slots, gives ``results``."""

    name: Name
    required: list[Name] = []
    results: list[Name] = []
    description: str = Field(default="", max_length=1_000)


class Templates(_Data):
    """Sentences by act, with ``{slot}`` for values: ``inform(food)``, ``request(phone)``, ``offer``, ``bye``.

    An act without sentences of its own has Sightline's (:mod:`services.dialog.sentences`).
    """

    user: dict[str, Sentences] = {}
    system: dict[str, Sentences] = {}


class Paraphrase(_Data):
    """How simulated users stray from the sentences: shares of turns."""

    synonyms: dict[str, Annotated[list[Text], Field(max_length=50)]] = {}
    fillers: Annotated[list[Text], Field(max_length=100)] = ["please", "um", "well", "so", "hi", "ok"]
    filler: float = Field(default=0.2, ge=0, le=1)
    drop: float = Field(default=0.05, ge=0, le=1)
    reorder: float = Field(default=0.2, ge=0, le=1)
    typos: float = Field(default=0.05, ge=0, le=1)
    invented: float = Field(default=0.5, ge=0, le=1, description="Values of free slots that no row has")


class Schema(_Data):
    """Everything that a bot is made from but its rows.

    >>> Schema.model_validate({"task": {"id": "cafe"}, "slots": [{"name": "area"}], "flow": {"start": "ask",
    ...     "nodes": [{"id": "ask", "kind": "request", "slots": ["area"]}]}}).task.id
    'cafe'
    """

    task: Task
    slots: Annotated[list[Slot], Field(min_length=1, max_length=100)]
    database: Database | None = None
    flow: Flow
    actions: Annotated[list[Action], Field(max_length=50)] = []
    templates: Templates = Templates()
    paraphrase: Paraphrase = Paraphrase()
    delex: dict[str, Annotated[str, StringConstraints(pattern=r"^\[[a-z0-9_]{1,60}\]$")]] = {}

    def slot(self, name: str) -> Slot:
        """The slot of that name; raises ``KeyError``."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    def action(self, name: str) -> Action:
        """The action of that name; raises ``KeyError``."""
        for action in self.actions:
            if action.name == name:
                return action
        raise KeyError(name)

    @property
    def informable(self) -> list[Slot]:
        """Slots that a user can fill, in their order."""
        return [slot for slot in self.slots if slot.informable]

    def token(self, slot: str) -> str:
        """How a value of ``slot`` stands in delexicalised replies: ``[restaurant_food]`` unless ``delex`` names it."""
        return self.delex.get(slot, f"[{self.task.id}_{slot}]")
