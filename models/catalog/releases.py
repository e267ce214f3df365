"""The published checkpoints of the image-text-label line: data beside this file, read strictly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.catalog.card import MODEL_NAME, Licence
from models.catalog.lock import PlainName, Sha256, Size
from models.errors import ModelError

FOLDER = Path(__file__).parent / "releases"
WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")
BEST_FIRST = ("live", "unchecked", "dead")


class ReleaseError(ModelError):
    """A release that is not published, or a data file that is not right."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Pin:
    """One file at a fixed address, with what it must be."""

    address: str
    file: str
    sha256: str
    size: int


class Copy(_Data):
    """One place where the weights are or were. ``sha256`` and ``size`` are what the host itself states, if it does.

    ``file`` is the file's name where the address is a page that has it beside others.
    """

    address: Annotated[str, Field(pattern=r"^https://")]
    status: Literal["live", "dead", "unchecked"]
    naming: Literal["release", "timm", "huggingface", "mmdet", "A", "B", "C"]
    file: PlainName | None = None
    sha256: Sha256 | None = None
    size: Size | None = None
    note: str = ""

    @property
    def file_name(self) -> str | None:
        """The name that the file comes with; ``None`` where only the page is known."""
        return self.file or self._named_by_address

    @property
    def pin(self) -> Pin | None:
        """What can be fetched and checked without a person: address, hash and size are all known."""
        named = self._named_by_address
        if self.status == "dead" or named is None or self.sha256 is None or self.size is None:
            return None
        return Pin(self.address, named, self.sha256, self.size)

    @property
    def _named_by_address(self) -> str | None:
        last = PurePosixPath(self.address)
        return last.name if last.suffix in WEIGHTS else None


class Figure(_Data):
    """A number that the publisher states, accuracies as a share of 1."""

    dataset: str
    metric: str
    value: Annotated[float, Field(ge=0, le=1)]


class Picture(_Data):
    """The side of the picture, and the shorter side before the crop, in pixels.

    Of a detector: the shorter side, and what the longer may have at most.
    """

    size: int
    resize: int


class Release(_Data):
    """One checkpoint. ``flags`` are fields of the variant's configuration that no weight shows; ``beside`` are files
    that the model is made of too, by their names, in the folder of its own."""

    variant: str
    title: str
    trained_on: str
    image: Picture
    flags: dict[str, bool | int] = Field(default_factory=dict)
    beside: tuple[PlainName, ...] = ()
    note: str = ""
    copies: tuple[Copy, ...] = Field(min_length=1)
    figures: tuple[Figure, ...] = ()
    family: str = ""
    licence: Licence = Licence(spdx="")
    paper: str = ""

    @property
    def pin(self) -> Pin | None:
        """The first copy that can be fetched and checked; ``None`` where a person has to fetch the file."""
        return next((copy.pin for copy in self.copies if copy.pin is not None), None)

    @property
    def files(self) -> tuple[str, ...]:
        """The names that its file has at one place or another, the best place's first."""
        best = sorted(self.copies, key=lambda copy: BEST_FIRST.index(copy.status))
        return tuple(dict.fromkeys(copy.file_name for copy in best if copy.file_name is not None))

    @property
    def size(self) -> int | None:
        """Bytes of the file, where a host states them."""
        return next((copy.size for copy in self.copies if copy.size is not None), None)

    def hashes(self, file: str) -> set[str]:
        """The hashes that a file of this name may have; empty where a place has it without stating one."""
        stated = [copy.sha256 for copy in self.copies if copy.file_name == file and copy.status != "dead"]
        return set() if None in stated else {sha256 for sha256 in stated if sha256 is not None}

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
        for name, release in self.releases.items():
            if not release.files:
                raise ValueError(f"release {name!r} has no copy whose file has a name: say file where it is a page")
        return self


def releases(folder: Path = FOLDER) -> dict[str, Release]:
    """Every release by name; raises :class:`ReleaseError` that names file and field."""
    return _read(folder)


@cache
def _read(folder: Path) -> dict[str, Release]:
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
