"""The official ``tritonclient`` against Sightline: ``python triton_client.py PHOTO``.

The Open Inference Protocol carries tensors, so the picture is prepared here as the model's card says.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton
from PIL import Image

client = triton.InferenceServerClient(urlsplit(os.environ.get("SIGHTLINE_URL", "http://127.0.0.1:8000")).netloc)
picture = Image.open(sys.argv[1]).convert("RGB").resize((260, 260))
tensor = ((np.asarray(picture, np.float32) - 127) / 128).transpose(2, 0, 1)[None]

image = triton.InferInput("image", list(tensor.shape), "FP32")
image.set_data_from_numpy(np.ascontiguousarray(tensor))
logits = triton.InferRequestedOutput("logits", class_count=3)
key = {"Authorization": f"Bearer {os.environ.get('SIGHTLINE_API_KEY', 'none')}"}
answer = client.infer("efficientnet-lite2", [image], outputs=[logits], headers=key)
for entry in answer.as_numpy("logits").ravel():
    value, _, label = entry.decode().split(":")
    print(f"{float(value):7.2f}  {label}")
