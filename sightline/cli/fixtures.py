"""``sightline models verify --fixture``: numeric parity with a reference implementation, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sightline.cli.output import console, print_json, table

if TYPE_CHECKING:
    from models.parity import Report


def verify(paths: Sequence[Path], *, json: bool) -> None:
    """Check fixtures and show every tensor; exit code 1 when one is beyond its tolerance."""
    reports = [_report(path) for path in paths]
    if json:
        print_json(
            [
                {
                    "fixture": report.fixture,
                    "kind": report.kind,
                    "ok": report.ok,
                    "tensors": [
                        {"name": c.name, "error": c.error, "atol": c.atol, "rtol": c.rtol, "ok": c.ok, "note": c.note}
                        for c in report.comparisons
                    ],
                }
                for report in reports
            ]
        )
    else:
        from rich.text import Text

        for report in reports:
            console().print(Text(f"{report.fixture} ({report.kind})", "bold"))
            table(
                ("tensor", "largest error", "atol", "rtol", "verdict", "note"),
                [
                    (
                        c.name,
                        f"{c.error:.1e}",
                        f"{c.atol:.0e}",
                        f"{c.rtol:.0e}",
                        Text("ok", "green") if c.ok else Text("FAILED", "red"),
                        c.note,
                    )
                    for c in report.comparisons
                ],
                right=("largest error", "atol", "rtol"),
            )
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _report(path: Path) -> Report:
    """Raises :class:`ModelError` with the path where the fixture cannot be read."""
    from models.errors import ModelError
    from models.verify import verify_fixture
    from services.parity import KINDS

    try:
        return verify_fixture(path, KINDS)
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as a fixture: {error}", "copy it again") from error
