"""Exported towers: exact at batch sizes, picture sizes and text lengths that were not traced.

Swin and the causal text tower are exported and compared in tests/models/intake/test_convert.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from models.backbones.focalnet import FocalNetConfig
from models.text.clip_transformer import ClipTextConfig
from models.unicl.export import export_image, export_text
from models.unicl.network import UniCL, UniCLConfig

TEXT = ClipTextConfig(vocab_size=40, context_length=12, width=16, heads=2, layers=1)
FOCAL = FocalNetConfig(
    embed_dim=8, depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3), drop_path=0.5, num_classes=0
)
EXACT = 5e-6


def model(text: ClipTextConfig = TEXT) -> UniCL:
    torch.manual_seed(0)
    return UniCL(UniCLConfig(FOCAL, text, dim=12)).train()


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_focalnet_tower_is_exact_at_other_sizes_and_shows_where_it_looked(tmp_path: Path) -> None:
    errors = export_image(model(), tmp_path / "a.onnx", 32)
    assert max(errors.values()) < EXACT
    run = session(tmp_path / "a.onnx")
    assert [output.name for output in run.get_outputs()] == ["image_embedding", "modulation"]
    embedding, modulation = run.run(None, {"image": np.zeros((1, 3, 96, 40), np.float32)})
    assert embedding.shape == (1, 12)
    assert modulation.shape == (1, 12, 5)


def test_bidirectional_text_tower_is_exact_at_any_batch_and_length(tmp_path: Path) -> None:
    tower = model(replace(TEXT, causal=False))
    assert export_text(tower, tmp_path / "a.onnx")["text_embedding"] < EXACT
    short = np.array([[38, 5, 39]], np.int64)
    full = np.pad(short, ((0, 0), (0, 9)))
    run = session(tmp_path / "a.onnx")
    np.testing.assert_allclose(
        run.run(None, {"input_ids": short})[0], run.run(None, {"input_ids": full})[0], atol=EXACT
    )
