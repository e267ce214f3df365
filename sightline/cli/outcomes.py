"""One outcome an image: a picture that the platform refuses does not take those sent with it along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sightline.cli.input_images import InputImage

if TYPE_CHECKING:
    from rich.text import Text

    from sightline.client import APIError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Answer(Protocol[R_co]):
    """What a task answers: by which model, and one result an image."""

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def results(self) -> Sequence[R_co]: ...


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one image: ``result`` by ``model``, or ``error``."""

    source: InputImage
    model: str = ""
    version: str = ""
    result: R | None = None
    error: APIError | None = None


def ask_each(ask: Callable[[list[str | bytes]], Answer[R]], batch: Sequence[InputImage]) -> list[Outcome[R]]:
    """One outcome for each image of ``batch``, in order. Raises what is not the fault of one image."""
    from sightline.client import APIError

    refused: dict[int, APIError] = {}
    while left := [index for index in range(len(batch)) if index not in refused]:
        try:
            answer = ask([batch[index].value for index in left])
        except APIError as error:
            parts = (error.pointer or "").split("/")
            place = int(parts[2]) if len(parts) > 2 and parts[1] == "images" and parts[2].isdigit() else -1
            if error.status >= 500 or not 0 <= place < len(left) or len(batch) == 1:
                raise
            refused[left[place]] = error
            continue
        found = dict(zip(left, answer.results, strict=True))
        return [
            Outcome(source, error=refused[index])
            if index in refused
            else Outcome(source, answer.model, answer.version, found[index])
            for index, source in enumerate(batch)
        ]
    return [Outcome(source, error=refused[index]) for index, source in enumerate(batch)]


def print_error_line(name: str, error: APIError) -> None:
    """One line of JSON that says what was wrong with an image."""
    import json

    told = {"code": error.code, "detail": error.detail, "remedy": error.remedy}
    print(json.dumps({"image": name, "error": told}, ensure_ascii=False), flush=True)


def error_text(name: str, error: APIError) -> Text:
    """The same for people."""
    from rich.text import Text

    return Text.assemble((name, "bold"), "  ", (error.detail, "red"))


def heading(outcome: Outcome[R], width: int, height: int) -> Text:
    """The image's name, its size, and who answered."""
    from rich.text import Text

    told = f"  {width}×{height}, {outcome.model} v{outcome.version}"
    return Text.assemble((outcome.source.name, "bold"), (told, "dim"))
