"""``python -m models.verify PATH...``: run parity fixtures against this project's networks.

A fixture is recognised by its own ``config.json`` (or ``meta.json``): the lines of :mod:`models.families` are asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.errors import ModelError
from models.families import families
from models.parity import FixtureKind, Report, check_fixture


def verify_fixture(path: Path, beside: Sequence[FixtureKind] = ()) -> Report:
    """Build what a fixture describes, load its weights strictly, and compare every tensor.

    ``beside`` are kinds of an upper floor, beside those of the networks. Raises
    :class:`models.parity.UnknownFixture`, ``OSError``, ``ValueError`` on a fixture that cannot be read, or a
    checkpoint's error when weights do not fit.
    """
    kinds = [kind for line in families() for kind in line.fixtures]
    return check_fixture(path, [*kinds, *beside])


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


if __name__ == "__main__":
    sys.exit(main())
