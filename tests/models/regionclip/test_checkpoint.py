"""RegionCLIP's files: parts of several put together, each whole, or a refusal that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.backbones.modified_resnet import ModifiedResNetConfig
from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint, State
from models.regionclip import checkpoint
from models.regionclip.checkpoint import canonical, merge, published_as, read
from models.regionclip.localization import ProposalConfig
from models.regionclip.network import RegionCLIP, RegionCLIPConfig
from models.text.clip_transformer import ClipTextConfig

TEXT = ClipTextConfig(vocab_size=20, context_length=6, width=8, heads=2, layers=1, eps=1e-5)
TINY = RegionCLIPConfig(ModifiedResNetConfig((1, 1, 1, 1), 4, 2, 12, 2), TEXT)
FPN = ProposalConfig(depths=(1, 1, 1, 1), width=2, pyramid=4)
SYNCED = ProposalConfig(synced=True, depths=(1, 1, 1, 1), width=2, pyramid=4)
C4 = ProposalConfig(fpn=False, depths=(1, 1, 1, 1), width=2, most=6000)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(checkpoint.VARIANTS, "regionclip_rn50", TINY)
    for name, config in zip(checkpoint.PROPOSALS, (FPN, SYNCED, C4), strict=True):
        monkeypatch.setitem(checkpoint.PROPOSALS, name, config)
    yield


def network(proposals: ProposalConfig | None = FPN, classes: int = 0, seed: int = 0) -> RegionCLIP:
    torch.manual_seed(seed)
    return RegionCLIP(RegionCLIPConfig(TINY.image, TEXT, proposals, classes)).eval()


def part(state: State, *beginnings: str) -> State:
    return {name: tensor for name, tensor in state.items() if name.startswith(beginnings)}


def saved(state: State, file: Path) -> Path:
    torch.save({"model": state, "iteration": 3}, file)
    return file


def pretrained(folder: Path, seed: int = 0) -> Path:
    """As the publisher saves it: with the frozen teacher, and with its own proposals."""
    state = network(seed=seed).state_dict()
    teacher = {f"teacher_{name}": tensor for name, tensor in part(state, "backbone.").items()}
    return saved({**state, **teacher, "pixel_mean": torch.zeros(3, 1, 1)}, folder / "pretrained.pth")


def finetuned(folder: Path) -> Path:
    """Without text tower and without proposals, with a head for masks."""
    state = network(classes=5, seed=1).state_dict()
    own = part(state, "backbone.", "roi_heads.")
    return saved({**own, "roi_heads.mask_head.predictor.weight": torch.zeros(1)}, folder / "finetuned.pth")


def rpn(folder: Path, config: ProposalConfig = FPN) -> Path:
    """A Mask R-CNN of detectron2, of which the boxes are wanted."""
    state = part(network(config, seed=2).state_dict(), "offline_")
    state = {name.removeprefix("offline_"): tensor for name, tensor in state.items()}
    more = {"roi_heads.box_head.fc1.weight": torch.zeros(2, 2), "pixel_std": torch.ones(3, 1, 1)}
    cells = {"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}
    return saved({**state, **more, **cells}, folder / "rpn.pth")


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_pretrained_file_is_whole_by_itself(tmp_path: Path) -> None:
    found, merged = read([pretrained(tmp_path)], TINY)
    assert same(found.state_dict(), network().state_dict())
    assert set(merged.origins.values()) == {"pretrained.pth"}
    assert not found.corrects_boxes


def test_a_fine_tuned_file_takes_what_it_lacks_from_those_beside_it(tmp_path: Path) -> None:
    found, merged = read([finetuned(tmp_path), pretrained(tmp_path), rpn(tmp_path, C4)], TINY)
    assert merged.origins == {"recognition": "finetuned.pth", "language": "pretrained.pth", "localisation": "rpn.pth"}
    assert found.config.classes == 5 and found.corrects_boxes
    state = found.state_dict()
    assert same(part(state, "backbone."), part(network(classes=5, seed=1).state_dict(), "backbone."))
    assert same(part(state, "offline_"), part(network(C4, seed=2).state_dict(), "offline_"))


@pytest.mark.parametrize("config", [FPN, SYNCED, C4], ids=["fpn", "synced", "c4"])
def test_each_published_sort_of_proposals_is_known_by_its_names(tmp_path: Path, config: ProposalConfig) -> None:
    found, _ = read([pretrained(tmp_path), rpn(tmp_path, config)], TINY)
    assert found.config.proposals == config


def test_a_model_without_proposals_is_refused_and_told_which_file_has_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no language branch and no localisation branch") as caught:
        read([finetuned(tmp_path)], TINY)
    assert "rpn_lvis_866.pth" in caught.value.remedy and "--with" in caught.value.remedy


@pytest.mark.parametrize(
    "lost",
    [
        "proposal_generator.rpn_head.anchor_deltas.bias",
        "backbone.bottom_up.res3.0.conv2.norm.running_var",
        "backbone.fpn_output3.weight",
    ],
)
def test_proposals_that_lack_one_weight_are_refused(tmp_path: Path, lost: str) -> None:
    """Where the reference goes on with what it had made up, and detects nothing."""
    file = rpn(tmp_path)
    state = torch.load(file, weights_only=True)["model"]
    del state[lost]
    with pytest.raises(MismatchedCheckpoint) as caught:
        read([pretrained(tmp_path), saved(state, file)], TINY)
    assert caught.value.missing == (f"offline_{lost}",)


def test_a_weight_that_nothing_takes_is_refused(tmp_path: Path) -> None:
    file = pretrained(tmp_path)
    state = torch.load(file, weights_only=True)["model"]
    with pytest.raises(MismatchedCheckpoint) as caught:
        read([saved({**state, "backbone.layer5.weight": torch.zeros(1)}, file)], TINY)
    assert caught.value.unexpected == ("backbone.layer5.weight",)
    with pytest.raises(CheckpointError, match=r"no file of RegionCLIP: it has head\.weight"):
        read([saved({**state, "head.weight": torch.zeros(1)}, file)], TINY)


def test_clip_of_openai_has_two_parts_under_its_own_names(tmp_path: Path) -> None:
    state = network().state_dict()
    names = {"backbone.": "visual.", "lang_encoder.": ""}
    clip = {
        new + name.removeprefix(old): tensor.half()
        for old, new in names.items()
        for name, tensor in part(state, old).items()
    }
    clip["logit_scale"] = torch.tensor(4.6)
    assert canonical(clip).keys() == part(state, "backbone.", "lang_encoder.").keys()
    _, merged = read([saved(clip, tmp_path / "clip.pt"), rpn(tmp_path)], TINY)
    assert merged.origins == {"recognition": "clip.pt", "language": "clip.pt", "localisation": "rpn.pth"}


def test_proposals_on_a_backbone_that_is_not_built_are_refused(tmp_path: Path) -> None:
    state = {"backbone.bottom_up.layer1.0.conv1.weight": torch.zeros(1), "proposal_generator.rpn_head.x": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"rpn\.pth stands on no ResNet-50") as caught:
        read([pretrained(tmp_path), saved(state, tmp_path / "rpn.pth")], TINY)
    assert "rpn_lvis_866.pth" in caught.value.remedy


def test_what_a_file_is_can_be_told_of_it_alone(tmp_path: Path) -> None:
    for file in (pretrained(tmp_path), finetuned(tmp_path)):
        state = torch.load(file, weights_only=True)["model"]
        assert published_as(state) == {"regionclip_rn50's recognition branch": "regionclip_rn50"}
    assert published_as({"head.weight": torch.zeros(1)}) == {}


def test_the_first_file_that_has_a_part_gives_it_unless_one_is_given_for_it_alone(tmp_path: Path) -> None:
    other = saved(network(seed=7).state_dict(), tmp_path / "other.pth")
    assert set(merge([pretrained(tmp_path), other]).origins.values()) == {"pretrained.pth"}
    assert merge([pretrained(tmp_path), other, rpn(tmp_path)]).origins["localisation"] == "rpn.pth"
