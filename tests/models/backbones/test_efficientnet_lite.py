"""EfficientNet-Lite: the published names and shapes, and TensorFlow's padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbones.efficientnet_lite import CONFIGS, EfficientNetLite, SamePadConv2d, build
from models.catalog.labels import label_set
from models.intake.checkpoint import MismatchedCheckpoint, fitting, load


def _network(name: str) -> EfficientNetLite:
    with torch.device("meta"):
        return build(name)


@pytest.mark.parametrize(
    ("name", "keys", "parameters", "last"),
    [("efficientnet-lite0", 296, 4_652_008, 320), ("efficientnet-lite2", 386, 6_092_072, 352)],
)
def test_keys_and_shapes_are_those_of_the_published_checkpoints(
    name: str, keys: int, parameters: int, last: int
) -> None:
    network = _network(name)
    state = network.state_dict()
    assert len(state) == keys and sum(p.numel() for p in network.parameters()) == parameters
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3) and state["_conv_head.weight"].shape == (1280, last, 1, 1)
    assert state["_blocks.1._expand_conv.weight"].shape == (96, 16, 1, 1)
    assert "_blocks.0._expand_conv.weight" not in state


def test_depth_and_width_follow_the_coefficients() -> None:
    lite2 = _network("efficientnet-lite2")
    widths = [block._project_conv.out_channels for block in lite2._blocks]
    assert widths == [16] + [24] * 3 + [48] * 3 + [88] * 4 + [120] * 4 + [208] * 5 + [352]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (9, 3, 2), (8, 5, 2), (9, 5, 1), (130, 3, 2)])
def test_padding_puts_the_odd_pixel_right_and_below(size: int, kernel: int, stride: int) -> None:
    convolution = SamePadConv2d(1, 1, kernel, stride, bias=False)
    nn.init.ones_(convolution.weight)
    image = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    expected = F.conv2d(F.pad(image, (before, after, before, after)), convolution.weight, stride=stride)
    assert convolution(image).shape == (1, 1, out, out) and torch.equal(convolution(image), expected)


def test_checkpoint_of_another_size_names_the_one_it_fits() -> None:
    state = _network("efficientnet-lite0").state_dict()
    variants = {name: lambda name=name: build(name) for name in CONFIGS}
    with pytest.raises(MismatchedCheckpoint) as refusal:
        load(_network("efficientnet-lite2"), state, lambda shapes: fitting(shapes, variants))
    assert refusal.value.fits == ("efficientnet-lite0",)
    assert any("_blocks.20." in name for name in refusal.value.missing)


def test_checkpoint_that_lacks_one_tensor_is_refused_by_name() -> None:
    network = build("efficientnet-lite0")
    state = network.state_dict()
    del state["_fc.bias"]
    state["_fc.stray"] = torch.zeros(1)
    with pytest.raises(MismatchedCheckpoint, match=r"missing: _fc\.bias") as refusal:
        load(network, state, lambda shapes: ())
    assert refusal.value.unexpected == ("_fc.stray",)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("photo", "label"), [("chelsea", "Egyptian Mau"), ("coffee", "espresso"), ("camera", "tripod")]
)
def test_pulled_network_recognises_real_photos(default_models: Path, photo: str, label: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    import numpy as np
    from PIL import Image
    from skimage import data

    from models.repository.reading import read_card

    folder = default_models / "efficientnet-lite2" / "1"
    spec = read_card(folder).image
    assert spec is not None and spec.resize is not None
    image = Image.fromarray(getattr(data, photo)()).convert("RGB")
    scale = spec.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - spec.size) // 2, (image.height - spec.size) // 2
    pixels = np.asarray(image.crop((left, top, left + spec.size, top + spec.size)), np.float32) / 255
    tensor = ((pixels - spec.mean) / spec.std).transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": tensor})
    assert label_set("imagenet-1k")[int(logits.argmax())] == label
