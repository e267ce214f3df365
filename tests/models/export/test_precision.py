"""A network in fewer bits: what it costs is measured, and too much is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.export import precision
from models.export.onnx import Axis, ExportError, Signature, export
from models.export.precision import choose, has_openvino

SIGNATURE = Signature(("x",), ("y",), {"x": {0: Axis("batch", 1, 64)}})
WIDTH = 64

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")


class Small(nn.Module):
    """Two matrix products and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, WIDTH), nn.LayerNorm(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layers(x)
        return answer


def examples() -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(batch, WIDTH, generator=generator),) for batch in (1, 2, 5)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = Small().eval()
    file = tmp_path_factory.mktemp("precision") / "model.onnx"
    export(network, examples()[1], SIGNATURE, file)
    return network, file


def test_float32_is_the_file_as_it_is(exported: tuple[nn.Module, Path]) -> None:
    network, file = exported
    chosen = choose(network, examples(), SIGNATURE, file, 2e-7, "fp32")
    assert (chosen.file, chosen.engine.name, chosen.engine.precision) == (file, "onnxruntime", "fp32")
    assert "2.0e-07" in chosen.engine.reason and chosen.measured == ()


@pytest.mark.parametrize(("asked", "most"), [("fp16", 0.6), ("int8", 0.45)])
def test_fewer_bits_make_a_smaller_file_whose_cost_is_on_the_card(
    exported: tuple[nn.Module, Path], asked: precision.Precision, most: float
) -> None:
    network, file = exported
    chosen = choose(network, examples(), SIGNATURE, file, 0.0, asked)
    assert chosen.file.stat().st_size < most * file.stat().st_size
    assert (chosen.engine.name, chosen.engine.precision) == ("onnxruntime", asked)
    (measured,) = chosen.measured
    assert precision.LEAST[asked] <= measured.value <= 1 and measured.n == 8
    assert f"cosine {measured.value:.5f}" in chosen.engine.reason
    kinds = {value.type.tensor_type.elem_type for value in onnx.load(chosen.file).graph.input}
    assert kinds == {onnx.TensorProto.FLOAT}  # whatever is inside, it takes what it took


@needs_openvino
@pytest.mark.parametrize("asked", ["bf16", None])
def test_bfloat16_is_the_same_file_in_another_engine(
    exported: tuple[nn.Module, Path], asked: precision.Precision | None
) -> None:
    network, file = exported
    chosen = choose(network, examples(), SIGNATURE, file, 0.0, asked)
    assert (chosen.file, chosen.engine.name, chosen.engine.precision) == (file, "openvino", "bf16")
    assert 0.999 <= chosen.measured[0].value <= 1.000001


def test_a_network_that_does_not_bear_it_is_refused_or_stays_exact(
    exported: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, file = exported
    monkeypatch.setattr(precision, "LEAST", dict.fromkeys(precision.LEAST, 1.1))
    with pytest.raises(ExportError, match="cosine"):
        choose(network, examples(), SIGNATURE, file, 0.0, "int8")
    assert choose(network, examples(), SIGNATURE, file, 0.0, None).engine.precision == "fp32"


def test_bfloat16_without_its_engine_says_what_to_install(
    exported: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, file = exported
    monkeypatch.setattr(precision, "has_openvino", lambda: False)
    with pytest.raises(ModelError) as caught:
        choose(network, examples(), SIGNATURE, file, 0.0, "bf16")
    assert "sightline[openvino]" in caught.value.remedy
    assert choose(network, examples(), SIGNATURE, file, 0.0, None).engine.name == "onnxruntime"


def test_weights_beside_the_graph_are_not_quantised(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, file = exported
    large = tmp_path / "model.onnx"
    large.write_bytes(file.read_bytes())
    (tmp_path / "model.onnx.data").touch()
    with pytest.raises(ModelError, match="beside the graph"):
        choose(network, examples(), SIGNATURE, large, 0.0, "fp16")
