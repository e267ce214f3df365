"""``python -m speed.networks``: this project's exported networks against what a user would run instead.

FocalNet-T with random weights (they do not change the speed), beside Hugging Face's FocalNet with the same weights
where ``transformers`` is installed, in PyTorch and as its own plain ONNX export; Swin-T, EfficientNet-Lite2 and two
text towers beside PyTorch. Milliseconds a batch, the median of rounds in which every contender runs once; the least
cosine of a row to PyTorch in float32. Wants a quiet machine, and some five minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from models.backbones.efficientnet_lite import CONFIGS, EfficientNetLite
from models.backbones.focalnet import FocalNet
from models.efficientnet_lite.export import SIGNATURE as LITE
from models.export.onnx import Axis, Signature, export
from models.focalnet.checkpoint import to_huggingface
from models.focalnet.export import CLASSIFIER, Classifier, pictures
from models.focalnet.variants import VARIANTS as FOCALNETS
from models.minilm.export import SIGNATURE as MINILM
from models.minilm.export import tokens
from models.text.minilm import MiniLM, MiniLMConfig
from models.unicl.export import IMAGE, ImageTower, TextTower
from models.unicl.network import UniCL
from models.unicl.report import replaced
from models.unicl.variants import VARIANTS as UNICLS
from services.runtime.onnx.cores import physical_cores
from speed.network_engines import Contender, Feed, Network, contenders, eager, onnxruntime

TOKENS = 16
PAUSE = 0.02
"""Seconds between two runs: PyTorch's threads spin a while before they let go of the cores."""


def focalnet(scratch: Path) -> Network:
    module = Classifier(FocalNet(FOCALNETS["focalnet_tiny_srf"]))
    file = scratch / "focalnet.onnx"
    export(module, (pictures(3, 224, 224),), CLASSIFIER, file)
    return Network("FocalNet-T (srf), 224 px", module.eval(), file, CLASSIFIER, "logits", _pictures(224))


def swin(scratch: Path) -> Network:
    module = ImageTower(UniCL(UNICLS["unicl_swin_tiny"]))
    file = scratch / "swin.onnx"
    export(module, (pictures(3, 224, 224),), IMAGE, file)
    return Network("Swin-T of UniCL, 224 px", module.eval(), file, IMAGE, "image_embedding", _pictures(224))


def lite(scratch: Path) -> Network:
    config = CONFIGS["efficientnet-lite2"]
    module = EfficientNetLite(config).eval()
    file = scratch / "lite.onnx"
    export(module, (pictures(3, config.image_size, config.image_size),), LITE, file)
    name = f"EfficientNet-Lite2, {config.image_size} px"
    return Network(name, module, file, LITE, "logits", _pictures(config.image_size))


def unicl_text(scratch: Path) -> Network:
    model = UniCL(UNICLS["unicl_swin_tiny"])
    module, vocabulary = TextTower(model), model.config.text.vocab_size

    def feed(batch: int) -> Feed:
        ids = np.random.default_rng(batch).integers(1, vocabulary - 1, (batch, TOKENS))
        ids[:, -1] = vocabulary - 1
        return {"input_ids": ids}

    free = {"input_ids": {0: Axis("batch", 1, 256), 1: Axis("length", 2, model.config.text.context_length)}}
    signature = Signature(("input_ids",), ("text_embedding",), free)
    file = scratch / "text.onnx"
    export(module, (torch.from_numpy(feed(3)["input_ids"]),), signature, file)
    name = f"UniCL's text tower, {TOKENS} tokens"
    return Network(name, module.eval(), file, signature, "text_embedding", feed)


def minilm(scratch: Path) -> Network:
    config = MiniLMConfig()
    module = MiniLM(config).eval()
    file = scratch / "minilm.onnx"
    export(module, tokens(config, 3, 7), MINILM, file)

    def feed(batch: int) -> Feed:
        ids, mask = tokens(config, batch, TOKENS)
        return {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(mask).numpy()}

    return Network(f"MiniLM-L6, {TOKENS} tokens", module, file, MINILM, "embedding", feed)


NETWORKS: dict[str, Callable[[Path], Network]] = {
    "focalnet": focalnet,
    "swin": swin,
    "lite": lite,
    "unicl-text": unicl_text,
    "minilm": minilm,
}


def _pictures(side: int) -> Callable[[int], Feed]:
    return lambda batch: {"image": pictures(batch, side, side).numpy()}


def huggingface(network: Network, threads: int, scratch: Path) -> Iterator[Contender]:
    """The same FocalNet with the same weights by ``transformers``: eager, bfloat16, and exported as it stands."""
    try:
        from transformers import FocalNetConfig, FocalNetForImageClassification
    except ImportError:
        return
    theirs = FocalNetForImageClassification(FocalNetConfig(num_labels=1000)).eval()
    ours = network.module.network
    assert isinstance(ours, FocalNet)
    theirs.load_state_dict(to_huggingface(ours.state_dict()))
    yield eager("transformers, eager fp32", theirs, network)
    yield eager("transformers, bf16", theirs, network, torch.bfloat16)
    file = scratch / "huggingface.onnx"
    signature = Signature(("image",), ("logits",), {"image": {0: Axis("batch", 1, 256)}})
    export(_LogitsOnly(theirs), (pictures(3, 224, 224),), signature, file)
    yield onnxruntime("transformers, exported, ONNX Runtime", network, file, threads)


class _LogitsOnly(torch.nn.Module):
    """What ``optimum`` exports: the logits of the model as it stands."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(image).logits
        return logits


def table(network: Network, others: Sequence[Contender], batches: Sequence[int], rounds: int) -> list[str]:
    """One network: a row a contender, with its median at each batch and how it compares with the first."""
    cosines = dict.fromkeys((one.name for one in others), 1.0)
    medians: dict[tuple[str, int], float] = {}
    for batch in batches:
        feed = network.feed(batch)
        exact = others[0].run(feed)
        for one in others:
            got = one.run(feed)
            cosines[one.name] = min(cosines[one.name], _least_cosine(exact, got))
        taken: dict[str, list[float]] = {one.name: [] for one in others}
        for number in range(rounds):
            for one in others if number % 2 else reversed(others):  # whoever follows whom changes
                time.sleep(PAUSE)
                begin = time.perf_counter()
                one.run(feed)
                taken[one.name].append((time.perf_counter() - begin) * 1e3)
        medians |= {(name, batch): median(times) for name, times in taken.items()}
    rows = []
    for one in others:
        cells = [f"{medians[one.name, batch]:.1f}" for batch in batches]
        gains = [f"{medians[others[0].name, batch] / medians[one.name, batch]:.2f}" for batch in batches]
        rows.append(
            f"| {network.name} | {one.name} | {' | '.join(cells)} | {' / '.join(gains)} | {cosines[one.name]:.5f} |"
        )
    return rows


def _least_cosine(exact: np.ndarray, got: np.ndarray) -> float:
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(got, axis=1)
    return float(((exact * got).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m speed.networks", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--write", type=Path, help="page whose table `speed` is exchanged")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    heads = [f"batch {batch}, ms" for batch in given.batches]
    gains = " / ".join(f"{batch}" for batch in given.batches)
    lines = [
        f"| network | run by | {' | '.join(heads)} | times as fast at batch {gains} | least cosine |",
        "|" + " --- |" * (len(heads) + 4),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            scratch = Path(folder)
            network = NETWORKS[name](scratch)
            others = list(contenders(network, given.threads, scratch))
            if name == "focalnet":
                others = [*huggingface(network, given.threads, scratch), *others]
            rows = table(network, others, given.batches, given.rounds)
            print("\n".join(rows), flush=True)
            lines += rows
    if given.write:
        page = given.write.read_text("utf-8")
        given.write.write_text(replaced(page, "speed", lines), "utf-8")


if __name__ == "__main__":
    main()
