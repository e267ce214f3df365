"""Compare this checkout with another, each with its own ``.venv``, on the same models and requests.

``python -m speed.against OLD answers`` says which answers are not those of OLD, bit for bit; ``cost`` what a request
costs each in CPU time; ``surface`` which commands, options, settings, metrics, addresses or fields are gone;
``lines`` how much code each has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from speed.against import answers, cost, lines, surface
from speed.against.checkout import Checkout

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="speed.against", description=__doc__)
    parser.add_argument("old", type=Path, help="the other checkout")
    parser.add_argument("what", choices=("answers", "cost", "surface", "lines"))
    parser.add_argument("--no-jobs", action="store_true", help="answers: leave out the demo's jobs, which take minutes")
    parser.add_argument("--triton", action="store_true", help="answers: with the models of each in a tritonserver")
    parser.add_argument("--rounds", type=int, default=9, help="cost: measurements of each request on each side")
    parser.add_argument("--seconds", type=float, default=2.0, help="cost: of one measurement")
    parser.add_argument("--only", default="", help="answers, cost: requests whose name contains this")
    options = parser.parse_args()
    old, new, models = Checkout(options.old.resolve()), Checkout(ROOT), ROOT / ".sightline/models"
    with tempfile.TemporaryDirectory(prefix="against-", dir=models.parent) as folder:
        match options.what:
            case "answers":
                where = {"jobs": not options.no_jobs, "triton": options.triton, "only": options.only}
                return bool(answers.compare(old, new, models, photos(), Path(folder), **where))
            case "cost":
                table = cost.measured(old, new, models, Path(folder), options.rounds, options.seconds, options.only)
                print("\n".join(table))
                return 0
            case "lines":
                print("\n".join(lines.table(old.root, new.root)))
                return 0
            case _:
                return bool(surface.compare(old, new, Path(folder)))


def photos() -> Path:
    """The photos that ship in scikit-image's wheel."""
    spec = find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data"


if __name__ == "__main__":
    sys.exit(main())
