"""The real default models run in the embedded backend, alone and in company."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Tensor
from services.settings import Settings

pytestmark = pytest.mark.weights


async def test_default_models_answer_the_same_alone_and_in_company(settings: Settings, default_models: Path) -> None:
    settings.data_dir.mkdir()
    settings.models_dir.symlink_to(default_models)
    backend = OnnxBackend(settings)
    await backend.start()
    try:
        index = backend.index()
        assert {status.state for status in index} == {"READY"}, [status.reason for status in index]
        assert {"efficientnet-lite2", "minilm-l6"} <= {status.name for status in index}
        rng = np.random.default_rng(0)
        images = rng.standard_normal((3, 3, 260, 260)).astype(np.float32)
        ids = rng.integers(1000, 20000, (5, 12))
        texts: dict[str, Tensor] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for model, inputs in (("efficientnet-lite2", {"image": images}), ("minilm-l6", texts)):
            count = len(next(iter(inputs.values())))
            whole = await backend.infer(model, inputs)
            each = await asyncio.gather(
                *(
                    backend.infer(model, {name: array[row : row + 1] for name, array in inputs.items()})
                    for row in range(count)
                )
            )
            for name, together in whole.outputs.items():
                assert np.isfinite(together).all()
                alone = np.concatenate([answer.outputs[name] for answer in each])
                np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4)
    finally:
        await backend.close()
