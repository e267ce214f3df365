"""Export: the file computes what the network computes, and says so when it does not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from models.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, Stage, build
from models.efficientnet_lite import export as efficientnet_lite
from models.export.onnx import Axis, ExportError, Signature, agreement, export, verify
from models.export.quantise import dynamic_int8
from models.intake.checkpoint import load, read_state
from models.intake.sources.fetch import fetch
from models.minilm import export as minilm
from models.text.minilm import MiniLM, MiniLMConfig

SMALL_IMAGE = EfficientNetLiteConfig(
    image_size=36, num_classes=7, stem=8, head=32, stages=(Stage(1, 3, 1, 1, 8), Stage(2, 5, 2, 6, 16))
)
SMALL_TEXT = MiniLMConfig(vocabulary=50, positions=64, width=32, layers=2, heads=4, hidden=64)
SIGNATURE = Signature(("x",), ("y",), {"x": {0: Axis("batch", 1, 64)}})


class Doubler(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.factor


@pytest.fixture(scope="module")
def image_network() -> EfficientNetLite:
    torch.manual_seed(0)
    network = EfficientNetLite(SMALL_IMAGE)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: statistics that matter
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def text_network() -> MiniLM:
    torch.manual_seed(0)
    network = MiniLM(SMALL_TEXT)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def test_image_network_is_the_same_at_batches_that_were_not_traced(
    tmp_path: Path, image_network: EfficientNetLite
) -> None:
    path = tmp_path / "model.onnx"
    export(image_network, [torch.randn(3, 3, 36, 36)], efficientnet_lite.SIGNATURE, path)
    errors = verify(
        image_network, [[torch.randn(batch, 3, 36, 36)] for batch in (1, 2, 5)], efficientnet_lite.SIGNATURE, path
    )
    assert errors.keys() == {"logits", "features"} and max(errors.values()) < 1e-5


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory, text_network: MiniLM) -> Path:
    path = tmp_path_factory.mktemp("text") / "model.onnx"
    export(text_network, minilm.tokens(SMALL_TEXT, 3, 7), _short(minilm.SIGNATURE), path)
    return path


@pytest.fixture(scope="module")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> tuple[Doubler, Path]:
    network, path = Doubler(), tmp_path_factory.mktemp("doubler") / "model.onnx"
    export(network, [torch.randn(2, 4)], SIGNATURE, path)
    return network, path


def test_text_network_is_the_same_at_batches_and_lengths_that_were_not_traced(
    text_file: Path, text_network: MiniLM
) -> None:
    examples = [minilm.tokens(SMALL_TEXT, *size) for size in ((1, 1), (1, 64), (2, 9), (5, 33))]
    assert verify(text_network, examples, _short(minilm.SIGNATURE), text_file)["embedding"] < 1e-5


def _short(signature: Signature) -> Signature:
    """The same signature for the small network's 64 positions."""
    free = {0: Axis("batch", 1, 64), 1: Axis("length", 1, SMALL_TEXT.positions)}
    return Signature(signature.inputs, signature.outputs, dict.fromkeys(signature.inputs, free))


def test_file_is_one_and_names_nothing_of_the_exporting_machine(doubler: tuple[Doubler, Path]) -> None:
    _, path = doubler
    content = path.read_bytes()
    assert b".py" not in content and str(Path(__file__).parents[3]).encode() not in content
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(path)


def test_export_of_the_same_network_gives_the_same_bytes(tmp_path: Path, doubler: tuple[Doubler, Path]) -> None:
    network, path = doubler
    export(network, [torch.randn(2, 4)], SIGNATURE, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_output_may_be_named_as_an_inner_value_is(tmp_path: Path) -> None:
    signature = Signature(("x",), ("linear",), SIGNATURE.free)
    network = Doubler()
    export(network, [torch.randn(2, 4)], signature, tmp_path / "model.onnx")
    assert verify(network, [[torch.randn(3, 4)]], signature, tmp_path / "model.onnx")["linear"] < 1e-5


def test_tracing_with_a_single_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size 1 on free axis 0"):
        export(Doubler(), [torch.randn(1, 4)], SIGNATURE, tmp_path / "model.onnx")


def test_difference_beyond_tolerance_is_an_error(doubler: tuple[Doubler, Path]) -> None:
    network, path = doubler
    changed = Doubler(2.001)
    changed.load_state_dict(network.state_dict())
    with pytest.raises(ExportError, match="output 'y' is off by"):
        verify(changed, [[torch.randn(3, 4)]], SIGNATURE, path)


def test_values_that_are_not_numbers_are_an_error(doubler: tuple[Doubler, Path]) -> None:
    network, path = doubler
    with pytest.raises(ExportError):
        verify(network, [[torch.full((2, 4), float("nan"))]], SIGNATURE, path)


def test_int8_is_close_and_its_distance_is_checked(tmp_path: Path, text_file: Path, text_network: MiniLM) -> None:
    signature, small = _short(minilm.SIGNATURE), tmp_path / "small.onnx"
    dynamic_int8(text_file, small, ("MatMul", "Gather"))
    examples = [minilm.tokens(SMALL_TEXT, 4, 20)]
    assert 0.9 < agreement(text_network, examples, signature, small, least=0.9) < 1
    operators = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in operators and [path.name for path in tmp_path.iterdir()] == ["small.onnx"]
    with pytest.raises(ExportError, match="cosine"):
        agreement(text_network, examples, signature, small, least=0.9999999)


@pytest.mark.weights
def test_pulled_models_are_the_published_checkpoints(default_models: Path) -> None:
    cache = default_models.parent / "cache"
    network = build("efficientnet-lite2")
    load(network, read_state(fetch("efficientnet-lite2", cache) / "weights.pth"), lambda shapes: ())
    generator = torch.Generator().manual_seed(1)
    pictures = [[torch.randn(batch, 3, 260, 260, generator=generator)] for batch in (1, 2, 5)]
    file = default_models / "efficientnet-lite2" / "1" / "model.onnx"
    assert max(verify(network.eval(), pictures, efficientnet_lite.SIGNATURE, file).values()) < 1e-4

    encoder = minilm.read_minilm(fetch("minilm-l6", cache))
    sentences = [minilm.tokens(encoder.config, *size) for size in ((1, 3), (2, 40), (5, 12))]
    file = default_models / "minilm-l6" / "1" / "model.onnx"
    assert verify(encoder, sentences, minilm.SIGNATURE, file)["embedding"] < 1e-4
