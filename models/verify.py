"""``python -m models.verify PATH...``: run parity fixtures against this project's networks.

A fixture is recognised by its own ``config.json`` (or ``meta.json``); each line of networks adds one row to
:data:`KINDS`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError
from models.parity import Comparison, Config, Fixture, Report

Check = Callable[[Fixture], list[Comparison]]


class UnknownFixture(ModelError):
    """No row of the table recognises the fixture."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of fixture: how its config shows itself, and the function that checks it.

    ``check`` may be a ``module:function`` name, so that the table imports no network that is not asked for.
    """

    name: str
    recognises: Callable[[Config], bool]
    check: Check | str

    def run(self, fixture: Fixture) -> list[Comparison]:
        if not isinstance(self.check, str):
            return self.check(fixture)
        module, _, function = self.check.partition(":")
        check: Check = getattr(importlib.import_module(module), function)
        return check(fixture)


KINDS: tuple[Kind, ...] = (
    Kind("unicl", lambda config: "IMAGE_ENCODER" in config.get("MODEL", {}), "models.unicl.fixtures:check_network"),
    Kind("unicl-loss", lambda config: _cases_have(config, "expanded_labels"), "models.unicl.fixtures:check_loss"),
    Kind("clip-tokenizer", lambda config: "bpe_sha256" in config, "models.text.fixtures:check_clip_tokenizer"),
    Kind("resnet", lambda config: "resnet" in config, "models.unicl.fixtures:check_resnet"),
    Kind(
        "unicl-manifest",
        lambda config: "keys" in config and "IMAGE_ENCODER" in config.get("hyperparameters", {}),
        "models.unicl.fixtures:check_manifest",
    ),
    Kind(
        "focalnet",
        lambda config: "focal_levels" in config.get("constructor", {}),
        "models.focalnet.fixtures:check_network",
    ),
    Kind(
        "focalnet-manifest",
        lambda config: "keys" in config and "focal_levels" in config.get("hyperparameters", {}),
        "models.focalnet.fixtures:check_manifest",
    ),
    Kind("kadaptation", lambda config: "phm_dim" in config and "cases" in config, "models.kadaptation.fixtures:check"),
)


def verify_fixture(path: Path, kinds: Sequence[Kind] = KINDS) -> Report:
    """Build what a fixture describes, load its weights strictly, and compare every tensor.

    ``kinds`` may be longer than :data:`KINDS` where an upper floor adds its own. Raises :class:`UnknownFixture`,
    ``OSError``, ``ValueError`` on a fixture that cannot be read, or a checkpoint's error when weights do not fit.
    """
    fixture = Fixture.read(path)
    kind = next((kind for kind in kinds if kind.recognises(fixture.config)), None)
    if kind is None:
        known = ", ".join(kind.name for kind in kinds)
        raise UnknownFixture(f"{path} is no fixture of a known kind ({known})")
    try:
        return Report(path.name, kind.name, tuple(kind.run(fixture)))
    except (KeyError, TypeError) as error:
        raise UnknownFixture(f"{path} looks like {kind.name}, but its config or inputs lack {error}") from error
    except (RuntimeError, AttributeError, IndexError) as error:  # what torch says of inputs that do not fit a network
        raise UnknownFixture(f"{path} looks like {kind.name}, but cannot be computed: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table a fixture; 1 when anything is beyond tolerance, 2 when a fixture cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m models.verify", description=__doc__)
    parser.add_argument("fixtures", nargs="+", type=Path, metavar="PATH", help="fixture folder or JSON file")
    status = 0
    for path in parser.parse_args(arguments).fixtures:
        try:
            report = verify_fixture(path)
        except (OSError, ValueError, ModelError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            status = 2
            continue
        print(report.text())
        status = max(status, 0 if report.ok else 1)
    return status


def _cases_have(config: Config, key: str) -> bool:
    cases = config.get("cases")
    return isinstance(cases, list) and bool(cases) and key in cases[0]


if __name__ == "__main__":
    sys.exit(main())
