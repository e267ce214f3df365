"""Which versions of a model are served: the latest N, all, or some by number. Latest 1 unless somebody says otherwise.

The policy is part of the wanted state (see ``desired_state.py``), not of the model's folder: what is generated is never
edited, and going back to an older version is an act of an administrator that every process has to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Document = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """``count`` is for ``latest``, ``versions`` for ``specific``."""

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    versions: tuple[str, ...] = ()

    def choose(self, available: Sequence[str]) -> list[str]:
        """Of the versions that exist (ascending), those to serve. A specific one that is missing is left out."""
        if self.kind == "all":
            return list(available)
        if self.kind == "latest":
            return list(available[-self.count :])
        return [version for version in available if version in self.versions]

    def document(self) -> Document:
        """As Triton's ``version_policy`` spells it."""
        if self.kind == "all":
            return {"all": {}}
        if self.kind == "latest":
            return {"latest": {"num_versions": self.count}}
        return {"specific": {"versions": [int(version) for version in self.versions]}}

    @staticmethod
    def parse(document: object) -> VersionPolicy:
        """The opposite of :meth:`document`; raises ``ValueError`` saying what is wrong."""
        if not isinstance(document, Mapping) or len(document) != 1:
            raise ValueError('a version policy has exactly one of "latest", "all", "specific"')

        kind, body = next(iter(document.items()))
        if not isinstance(body, Mapping):
            raise ValueError(f"version policy {kind!r} must hold an object")
        if kind == "all":
            return VersionPolicy("all")
        if kind == "latest":
            count = body.get("num_versions", 1)
            if not _is_number(count):
                raise ValueError("latest.num_versions must be a positive integer")
            return VersionPolicy("latest", count=int(count))

        if kind == "specific":
            versions = body.get("versions")
            if not isinstance(versions, list) or not versions or not all(_is_number(one) for one in versions):
                raise ValueError("specific.versions must be a list of positive integers")
            return VersionPolicy("specific", versions=tuple(str(int(one)) for one in versions))

        raise ValueError(f"unknown version policy {str(kind)[:40]!r}")


def _is_number(value: object) -> bool:
    """A positive integer, also as text: protobuf's JSON writes 64-bit integers so."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and 0 < len(value) <= 9 and int(value) > 0
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9


LATEST = VersionPolicy()
