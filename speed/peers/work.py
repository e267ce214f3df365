"""The work of one request, the same in every peer: JPEG to tensor, network, five best classes.

``PREPROCESSING`` chooses how the tensor is made: ``idiomatic`` as people write it with NumPy, ``ours`` with the
platform's own preprocessing, which leaves what the framework itself costs.
"""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from speed.tiny import MEAN, SIZE, STD

_MEAN = np.array(MEAN, np.float32) * 255
_SCALE = 1 / (np.array(STD, np.float32) * 255)


def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["NETWORK"], options, providers=["CPUExecutionProvider"])


def idiomatic(text: str) -> np.ndarray:
    """Base64 to ``(3, 224, 224) float32``."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), np.float32)
    return np.ascontiguousarray(((pixels - _MEAN) * _SCALE).transpose(2, 0, 1))


def ours(text: str) -> np.ndarray:
    """The same by the platform's preprocessing, checks of the picture included."""
    return _preprocessor.batch([read_picture(base64.b64decode(text), _limits)])[0]


if os.environ.get("PREPROCESSING") == "ours":
    from models.catalog.geometry import ImagePreprocess
    from services.media.image import read_picture
    from services.media.intake import Limits
    from services.media.preprocess import Preprocessor
    from services.settings import Settings

    _preprocessor = Preprocessor(ImagePreprocess(size=SIZE, resize=SIZE, mean=MEAN, std=STD))
    _limits = Limits.of(Settings())
    decode = ours
else:
    decode = idiomatic


def infer(model: onnxruntime.InferenceSession, batch: np.ndarray) -> np.ndarray:
    return model.run(None, {"image": batch})[0]


def best(logits: np.ndarray) -> dict[str, Any]:
    """The five best classes and their probabilities."""
    top = np.argpartition(logits, -5)[-5:]
    top = top[np.argsort(-logits[top])]
    odds = np.exp(logits - logits.max())
    odds /= odds.sum()
    return {"labels": [int(index) for index in top], "scores": [float(odds[index]) for index in top]}
