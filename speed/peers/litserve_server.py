"""A model behind LitServe: ``python -m speed.peers.litserve_server PORT WORKERS BATCH FAST_QUEUE``."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np

from speed.peers import work


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = work.session()

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return work.decode(request["image"])

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return work.infer(self.model, x if x.ndim == 4 else x[None])

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return work.best(output if output.ndim == 1 else output[0])


if __name__ == "__main__":
    port, workers, batch, fast_queue = (int(value) for value in sys.argv[1:])
    api = Api(max_batch_size=batch, batch_timeout=0.002 if batch > 1 else 0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=bool(fast_queue))
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")
