"""What the bodies of several resources share, and the problem that every refusal is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import BaseMetadata, GroupedMetadata, Le, MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.settings import Settings


def default(name: str) -> int:
    """The default of a numeric setting: the document shows the limits of a server that nobody configured."""
    value = Settings.model_fields[name].default
    assert isinstance(value, int)
    return value


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise ValueError("must not be blank")
    if "\x00" in text:
        raise ValueError("must not hold NUL")
    return text


@dataclass(frozen=True, slots=True)
class Limit(GroupedMetadata):
    """An upper bound that is a setting: the document shows its default, a server holds requests to its own."""

    setting: str
    bound: Callable[[int], BaseMetadata]

    def __iter__(self) -> Iterator[BaseMetadata]:
        yield self.bound(default(self.setting))


@dataclass(frozen=True, slots=True)
class Marker:
    """Says what a text is, beyond its type."""

    name: str


NOT_BLANK = AfterValidator(_not_blank)
IMAGE = Marker("image")

MAX_IMAGES = Limit("max_images", MaxLen)
MAX_LABELS = Limit("max_labels", MaxLen)
MAX_TOP = Limit("max_labels", Le)
MAX_CHARS = Limit("max_text_chars", MaxLen)

NoNul = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""For texts that the database is asked about: PostgreSQL takes no NUL."""

PlainText = Annotated[str, Field(min_length=1), MAX_CHARS, NOT_BLANK]
ModelName = Annotated[str, Field(min_length=1, max_length=64), NOT_BLANK]
Version = Annotated[str, Field(min_length=1, max_length=9), NOT_BLANK]
ImageText = Annotated[str, Field(min_length=1), IMAGE]

PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAK0lEQVR4nO3NQQkAAAgEsItiHnuayRAKIqz/Uj2nIhAIBAKBQCAQ"
    "CAQCwZNgAY7nPGjkXkpTAAAAAElFTkSuQmCC"
)


class Body(BaseModel):
    """A request body: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TaskBody(Body):
    """The body of a task: each is done by a model, which a body may describe in its own words."""

    model: ModelName | None = None


class Answer(BaseModel):
    """An answer body; fields may be added, none is renamed."""

    model_config = ConfigDict(extra="allow")


class OpenAIError(BaseModel):
    """The same problem as OpenAI's clients read it."""

    message: str = Field(description="What happened, and what to do")
    type: str = Field(description="OpenAI's class of error", examples=["invalid_request_error"])
    param: str | None = Field(description="Which field, as `images[3]`")
    code: str = Field(description="The stable code of the problem", examples=["image-truncated"])


class ProblemBody(Answer):
    """RFC 9457. `code` in `error` and the end of `type` are stable; texts may change."""

    type: str = Field(description="Names the problem", examples=["https://sightline.dev/problems/image-truncated"])
    title: str = Field(description="What goes with every such problem", examples=["Image is truncated"])
    status: int = Field(description="The HTTP status", examples=[422])
    detail: str = Field(description="What happened this time")
    pointer: str | None = Field(None, description="JSON pointer to the field", examples=["/images/3"])
    remedy: str | None = Field(None, description="What to do", examples=["Send the whole file."])
    request_id: str = Field(description="As in the X-Request-ID header and in the server's log")
    error: OpenAIError


Encoding = Literal["float", "base64"]
