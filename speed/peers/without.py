"""A gateway that goes without one of its savings: ``python -m speed.peers.without NAME PORT``.

Each row of ``SAVINGS`` puts back what one would write first. The settings come from ``SIGHTLINE_*`` as always.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable

import numpy as np
import uvicorn
from PIL import Image

import gateway.app
import gateway.process
import gateway.request.images
import gateway.request.parsing
import services.runtime.served
from gateway.tasks.classify import ClassifyBody
from services.media.preprocess import Preprocessor
from services.settings import Settings


def _float_pixels(self: Preprocessor, image: Image.Image, left: int, top: int, out: np.ndarray) -> None:
    """Preprocessing as tutorials write it; the same values."""
    pixels = np.asarray(image.convert("RGB"), np.float32)[top : top + self.size, left : left + self.size] / 255
    out[...] = np.ascontiguousarray(((pixels - self._mean) / self._std).transpose(2, 0, 1))


def _preprocessing() -> None:
    Preprocessor._normalise = _float_pixels  # type: ignore[method-assign]


def _memory() -> None:
    gateway.process._tune_memory = lambda: None


def _pydantic() -> None:
    def parse(body: bytes | bytearray) -> object:
        return ClassifyBody.model_validate_json(bytes(body)).model_dump(exclude_unset=True)

    gateway.request.parsing.parse_image_json = parse


def _json_module() -> None:
    gateway.request.parsing.parse_image_json = lambda body: json.loads(body)


def _inline_inference() -> None:
    services.runtime.served.INLINE_SECONDS = 0.0


def _inline_decoding() -> None:
    gateway.request.images.INLINE_PIXELS = 0


def _shortcuts() -> None:
    gateway.app.fast_routes = lambda endpoints: []


def _uvloop() -> None:
    made = uvicorn.Config.__init__

    def plain(self: uvicorn.Config, *args: object, **more: object) -> None:
        made(self, *args, **{**more, "loop": "asyncio"})  # type: ignore[arg-type]

    uvicorn.Config.__init__ = plain  # type: ignore[method-assign]


SAVINGS: dict[str, tuple[str, Callable[[], None]]] = {
    "nothing": ("as it is", lambda: None),
    "preprocessing": ("pixels normalised as floats, as tutorials write it", _preprocessing),
    "memory": ("glibc's own malloc thresholds", _memory),
    "pydantic": ("the body through its pydantic model", _pydantic),
    "json": ("the body through Python's json module", _json_module),
    "inline-inference": ("each inference in a thread", _inline_inference),
    "inline-decoding": ("each picture decoded in a thread", _inline_decoding),
    "shortcuts": ("routes found and called by FastAPI", _shortcuts),
    "uvloop": ("asyncio's own event loop", _uvloop),
}


def main() -> int:
    name, port = sys.argv[1], int(sys.argv[2])
    SAVINGS[name][1]()
    listening = socket.create_server(("127.0.0.1", port), backlog=2048)
    return gateway.process.serve(Settings(), listening.detach(), "p0")


if __name__ == "__main__":
    sys.exit(main())
