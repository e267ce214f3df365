"""The published checkpoints of the image-text-label line: data beside this file, read strictly."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.catalog.card import MODEL_NAME, Licence
from models.errors import ModelError

FOLDER = Path(__file__).parent / "releases"


class ReleaseError(ModelError):
    """A release that is not published, or a data file that is not right."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Copy(_Data):
    """One place where the weights are or were. ``sha256`` and ``size`` are what the host itself states, if it does."""

    address: Annotated[str, Field(pattern=r"^https://")]
    status: Literal["live", "dead", "unchecked"]
    naming: Literal["release", "timm", "huggingface", "A", "B", "C"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: int | None = None
    note: str = ""


class Figure(_Data):
    """A number that the publisher states, accuracies as a share of 1."""

    dataset: str
    metric: str
    value: Annotated[float, Field(ge=0, le=1)]


class Picture(_Data):
    """The side of the picture, and the shorter side before the crop, in pixels."""

    size: int
    resize: int


class Release(_Data):
    """One checkpoint. ``flags`` are fields of the variant's configuration that no weight shows."""

    variant: str
    title: str
    trained_on: str
    image: Picture
    flags: dict[str, bool | int] = Field(default_factory=dict)
    note: str = ""
    copies: tuple[Copy, ...] = Field(min_length=1)
    figures: tuple[Figure, ...] = ()
    family: str = ""
    licence: Licence = Licence(spdx="")
    paper: str = ""

    @property
    def remedy(self) -> str:
        """Where to fetch the file from, or what to do when no copy answers."""
        live = [copy for copy in self.copies if copy.status == "live"]
        if live:
            return f"Download {live[0].address}" + "".join(f", or {copy.address}" for copy in live[1:])
        unchecked = [copy.address for copy in self.copies if copy.status == "unchecked"]
        return " ".join([*(f"Try {address}." for address in unchecked), self.note]) or "No copy is known."


class _File(_Data):
    family: str
    licence: Licence
    paper: str
    releases: dict[str, Release]

    @model_validator(mode="after")
    def _names_are_model_names(self) -> _File:
        for name in self.releases:
            if not MODEL_NAME.fullmatch(f"{name}-image"):  # a tower's name is the longest that is made of it
                raise ValueError(f"release name {name!r} cannot be a model's name")
        return self


@cache
def releases(folder: Path = FOLDER) -> dict[str, Release]:
    """Every release by name; raises :class:`ReleaseError` that names file and field."""
    found: dict[str, Release] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = _File.model_validate(yaml.safe_load(path.read_text("utf-8")))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise ReleaseError(f"{path}: {error}", "Correct what it names, or reinstall the package.") from error
        shared = {"family": content.family, "licence": content.licence, "paper": content.paper}
        found |= {name: entry.model_copy(update=shared) for name, entry in content.releases.items()}
    return found


def release(name: str) -> Release:
    """The release; raises :class:`ReleaseError` that lists the names there are."""
    found = releases()
    if name not in found:
        raise ReleaseError(f"no published checkpoint {name!r} is known", f"There are: {', '.join(found)}.")
    return found[name]
