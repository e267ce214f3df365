"""``python -m gateway --fd N``: one gateway process on a listening socket that it inherits."""

from __future__ import annotations

import argparse
import os
import sys

from services.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gateway", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the listening socket")
    parser.add_argument(
        "--worker",
        default=f"p{os.getpid()}",
        help="name of this worker's place: a worker that takes the place of a dead one gets the same name",
    )
    options = parser.parse_args(arguments)
    from gateway.process import serve

    return serve(Settings(), options.fd, options.worker)


if __name__ == "__main__":
    sys.exit(main())
