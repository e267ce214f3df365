"""RegionCLIP's published files to one whole network: what lies in several files is put together or refused.

=========================== =================================================== ==================================
file                        names                                               parts
=========================== =================================================== ==================================
regionclip_*.pth            ``backbone.``, ``roi_heads.box_predictor.``         recognition
the same                    ``lang_encoder.``                                   language (pretrained files alone)
the same                    ``offline_backbone.``, ``offline_proposal_``...     localisation
rpn_*.pth (detectron2)      ``backbone.``, ``proposal_generator.``              localisation
CLIP (OpenAI)               ``visual.``, ``transformer.``, ...                  recognition, language
=========================== =================================================== ==================================

The reference loads a second file by matching names and goes on without what does not match: with random proposals its
average precision is 0. Here every weight of every part is matched, or nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.intake.checkpoint import (
    CheckpointError,
    Shapes,
    State,
    load,
    read_state,
    weight_shapes,
)
from models.regionclip.localization import ProposalConfig
from models.regionclip.network import RegionCLIP, RegionCLIPConfig
from models.regionclip.variants import PROPOSALS, VARIANTS

PARTS = {
    "recognition": ("backbone.", "roi_heads."),
    "language": ("lang_encoder.",),
    "localisation": ("offline_backbone.", "offline_proposal_generator."),
}
"""What a whole network has, and how the names of each part begin."""

FOUND_IN = {
    "recognition": "regionclip_pretrained-cc_rn50.pth has it",
    "language": "regionclip_pretrained-cc_rn50.pth has it, or rn50x4's; the fine-tuned files were saved without",
    "localisation": "rpn_lvis_866.pth has it, or another rpn_*.pth",
}

_UNUSED = (
    "teacher_backbone.",
    "teacher_roi_heads.",
    "roi_heads.mask_head.",
    "concept_emb",
    "teacher_concept_emb",
    "pixel_mean",
    "pixel_std",
    "offline_pixel_mean",
    "offline_pixel_std",
)
"""What serving has no use for: the frozen teacher of pretraining, a head for masks, and constants."""

_OPENAI_LANGUAGE = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
_OPENAI_UNUSED = ("logit_scale", "input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True, slots=True)
class Merged:
    """The weights of a whole network under the names of RegionCLIP's files, and the file of each part."""

    state: State
    origins: dict[str, str]


def canonical(state: State) -> State:
    """One file's weights under the names of RegionCLIP's files, without what is of no use."""
    names = [name for name in state if ".anchor_generator." not in name]
    if any(name.startswith("proposal_generator.") for name in names):
        return {
            f"offline_{name}": state[name] for name in names if name.startswith(("backbone.", "proposal_generator."))
        }
    if any(name.startswith("visual.") for name in names):
        renamed = {f"backbone.{name[7:]}": state[name] for name in names if name.startswith("visual.")}
        renamed |= {f"lang_encoder.{name}": state[name] for name in names if name.startswith(_OPENAI_LANGUAGE)}
        return renamed | {name: state[name] for name in names if not _is_openai(name)}
    return {name: state[name] for name in names if not name.startswith(_UNUSED)}


def _is_openai(name: str) -> bool:
    return name.startswith(("visual.", *_OPENAI_LANGUAGE, *_OPENAI_UNUSED))


def merge(files: Sequence[Path]) -> Merged:
    """The parts that ``files`` hold, each from the first that has it; a file of one part alone replaces that part.

    So a localisation branch of one's own choice is given after the file that it is for. Raises
    :class:`CheckpointError` (or one of its kinds) where a part is in none of them, or ``OSError``.
    """
    parts: dict[str, State] = {}
    origins: dict[str, str] = {}
    for file in files:
        held = _by_part(canonical(read_state(file)), file.name)
        for part, state in held.items():
            if part not in parts or len(held) == 1:
                parts[part], origins[part] = state, file.name

    missing = [part for part in PARTS if part not in parts]
    if missing:
        whose = " and ".join(file.name for file in files)
        raise CheckpointError(
            f"{whose}: there is no {' and no '.join(f'{part} branch' for part in missing)}, so it could detect nothing",
            "Give the file that has it too, with --with FILE: " + "; ".join(FOUND_IN[part] for part in missing) + ".",
        )
    return Merged({name: tensor for part in PARTS for name, tensor in parts[part].items()}, origins)


def _by_part(state: State, file: str) -> dict[str, State]:
    parts: dict[str, State] = {}
    strangers = []
    for name, tensor in state.items():
        part = next((part for part, beginnings in PARTS.items() if name.startswith(beginnings)), None)
        if part is None:
            strangers.append(name)
        else:
            parts.setdefault(part, {})[name] = tensor
    if strangers or not parts:
        raise CheckpointError(
            f"{file} is no file of RegionCLIP: it has {', '.join(sorted(strangers)[:5]) or 'nothing of use'}",
            "Files of RegionCLIP, its rpn_*.pth, and CLIP's weights by OpenAI are read.",
        )
    return parts


def read(files: Sequence[Path], config: RegionCLIPConfig) -> tuple[RegionCLIP, Merged]:
    """The network of the published ``files`` together, in eval mode, and which file each part came from.

    ``config`` says the size; what was trained to detect, and which localisation branch it is, the weights show. Raises
    as :func:`merge`, and :class:`models.intake.checkpoint.MismatchedCheckpoint`.
    """
    merged = merge(files)
    head = "roi_heads.box_predictor."
    classes, test_classes = (merged.state.get(f"{head}{name}.weight") for name in ("cls_score", "test_cls_score"))
    whole = replace(
        config,
        proposals=_proposals(merged),
        classes=0 if classes is None else len(classes),
        test_classes=0 if test_classes is None else len(test_classes),
    )
    with torch.device("meta"):
        network = RegionCLIP(whole)
    load(network, merged.state, _fits)
    return network.eval(), merged


def _proposals(merged: Merged) -> ProposalConfig:
    """The localisation branch that has the names in ``merged``; the rest of it is checked by loading."""
    names = merged.state
    if "offline_backbone.stem.conv1.weight" in names:
        return PROPOSALS["R50-C4"]
    if "offline_backbone.bottom_up.stem.conv1.weight" not in names:
        raise CheckpointError(
            f"the localisation branch of {merged.origins['localisation']} stands on no ResNet-50 of detectron2",
            "rpn_lvis_1203_clipbackbone.pth is not read; take rpn_lvis_866.pth or rpn_lvis_866_lsj.pth.",
        )
    synced = "offline_backbone.fpn_lateral2.norm.weight" in names
    return PROPOSALS["R50-FPN with large-scale jitter" if synced else "R50-FPN"]


def published_as(state: State) -> dict[str, str]:
    """The sizes whose recognition branch, or localisation branch, a file of any of the namings has."""
    shapes = weight_shapes(canonical(state))
    return {f"{name}'s recognition branch": name for name in _fits(shapes)}


def _fits(shapes: Shapes) -> list[str]:
    own = {name: shape for name, shape in shapes.items() if name.startswith("backbone.")}
    return [name for name, config in VARIANTS.items() if own and own == _backbone_shapes(config)]


def _backbone_shapes(config: RegionCLIPConfig) -> Shapes:
    with torch.device("meta"):
        network = RegionCLIP(replace(config, text=None, classes=0, proposals=None))
    return weight_shapes(network.state_dict())
