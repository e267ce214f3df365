"""How a model is measured: one YAML file a protocol, data only. A new protocol is a new file here.

A protocol without ``method`` is zero-shot. With one, the model is adapted to the shots of a job by that strategy, its
head starting from random weights or from the class names.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from models.errors import ModelError, invalid_fields
from services.errors import Kind, Problem

KnowledgeSource = Literal[
    "wordnet_hierarchy", "wordnet_definition", "wiktionary", "gpt3", "wiki_and_gpt3", "wiki_then_gpt3"
]
Init = Literal["random", "language"]


class Protocol(BaseModel):
    """One way of measuring. ``options`` are the strategy's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = Field(
        description="What it is called in results"
    )
    title: str = Field("", max_length=200)
    method: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = Field(
        None, description="Strategy of adaptation; zero-shot when absent"
    )
    init: Init = Field("random", description="What the head starts from")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the strategy")
    knowledge: KnowledgeSource | None = Field(None, description="What is said of classes beyond their names")
    gpt3_items: int = Field(5, ge=1, le=5, description="GPT-3 sentences of a class that are used")

    @property
    def zero_shot(self) -> bool:
        return self.method is None


def names() -> tuple[str, ...]:
    """The protocols that there are, sorted."""
    folder = files(__name__)
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


@cache
def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ``protocol-unknown``, and :class:`ModelError` for a file that is not right."""
    if name not in names():
        raise Problem(
            Kind.INVALID,
            "protocol-unknown",
            "There is no such protocol",
            f"No protocol is called {name[:64]!r}.",
            pointer="/parameters/protocols",
            remedy=f"Protocols are {', '.join(names())}; or send one as an object.",
        )

    where = f"protocols/{name}.yaml"
    content = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text("utf-8"))
    try:
        return Protocol.model_validate({"name": name, **(content or {})})
    except ValidationError as error:
        raise ModelError(f"{where}: {invalid_fields(error)}", "correct what is named") from error
