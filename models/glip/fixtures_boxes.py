"""Parity of what GLIP makes of its outputs and of its texts: boxes, and the tokens that stand for labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.glip.anchors import anchors
from models.glip.boxes import Floats, decode, encode
from models.glip.fixtures import LEVELS, tiny_config
from models.glip.head import HeadOutput
from models.glip.network import Glip
from models.glip.postprocess import Boxes, HeadArrays, Indices, Rule, candidates, detections
from models.glip.prompts import Wording, clean_name, phrase_spans, positive_map, prompt_of
from models.intake.checkpoint import load
from models.parity import Comparison, Config, Fixture, FixtureKind, compare
from models.text.bert_wordpiece import bert_tokenizer

MODES = {
    "mean": Rule(),
    "max": Rule(aggregate="MAX"),
    "lvis_style": Rule(most=300),
    "power": Rule(aggregate="POWER"),
}


def check_postprocess(fixture: Fixture) -> list[Comparison]:
    """Anchors, the coder of boxes, and the detections of both pictures in each of four modes."""
    given = {name: tensor.numpy() for name, tensor in fixture.expected.items()}
    atol = float(fixture.config["tolerance"]["box_px"])

    def exact(name: str, found: Floats) -> Comparison:
        return compare(name, torch.from_numpy(found), fixture.expected[name], atol=1e-3, rtol=1e-5)

    levels = anchors([(height, width) for height, width in fixture.config["level_shapes"]])
    compared = [exact(f"expected.anchors.{level}", one) for level, one in enumerate(levels)]
    base = given["boxcoder.anchors"]
    compared.append(exact("boxcoder.encoded", encode(given["boxcoder.gt"], base)))
    compared.append(exact("boxcoder.decoded", decode(given["boxcoder.deltas"], base)))

    tokens = list(fixture.config["positive_map"].values())
    expected = json.loads((fixture.path / "expected_detections.json").read_bytes())
    tolerances = (float(fixture.config["tolerance"]["score"]), atol)
    for mode, rule in MODES.items():
        for picture, wanted in enumerate(expected[mode]):
            parts = ("dot_product_logits", "bbox_reg", "centerness")
            head = HeadArrays(*([given[f"in.{part}.{level}"][picture] for level in range(LEVELS)] for part in parts))
            height, width = fixture.config["image_sizes_hw"][picture]
            found = detections(candidates(head, tokens, (height, width), rule), rule)
            compared += compare_boxes(f"{mode}.{picture}", found, _listed(wanted), tolerances)
            compared.append(_in_original(f"{mode}.{picture}.original", found, wanted, atol))
    return compared


def check_network(fixture: Fixture) -> list[Comparison]:
    """A whole tiny GLIP over two pictures of different sizes, from pixels and ids to boxes."""
    given, config = fixture.expected, fixture.config
    network = Glip(tiny_config(config))
    load(network, fixture.weights, lambda shapes: ())
    network.eval()

    sizes = [(height, width) for height, width in config["image_sizes_hw"]]
    images = torch.zeros(len(sizes), 3, *config["img"])
    for index, (height, width) in enumerate(sizes):
        images[index, :, :height, :width] = given[f"in.image.{index}"]
    ids, mask = given["in.input_ids"], given["in.attention_mask"]
    with torch.no_grad():
        hidden = network.bert(ids, mask)
        output = network(images, ids, mask)
        found = {
            **{f"mid.fpn.{level}": tensor for level, tensor in enumerate(network.backbone(images))},
            **{f"mid.dot_product_logits.{level}": tensor for level, tensor in enumerate(output.logits)},
            "mid.lang.hidden": hidden,
            "mid.lang.embedded": hidden * mask[..., None],
            "mid.lang.aggregate": (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
        }

    tolerance = config["tolerance"]
    atol, rtol = float(tolerance["atol"]), float(tolerance["rtol"])
    compared = [
        compare(name, found.get(name), tensor, atol, rtol) for name, tensor in given.items() if name.startswith("mid.")
    ]
    tokens = list(config["positive_map"].values())
    for index, size in enumerate(sizes):
        kept = detections(candidates(arrays(output, index), tokens, size))
        parts = [given[f"out.{index}.{part}"] for part in ("boxes", "scores", "labels")]
        wanted = _sorted(*parts)
        compared += compare_boxes(f"out.{index}", kept, wanted, (atol, float(tolerance["box_atol_px"])))
    return compared


def arrays(output: HeadOutput, picture: int) -> HeadArrays:
    """One picture of a batch, as post-processing takes it."""
    parts = (output.logits, output.deltas, output.centerness)
    return HeadArrays(*([level[picture].numpy() for level in part] for part in parts))


def check_positive_map(fixture: Fixture) -> list[Comparison]:
    """Captions, ids, spans and token maps of labels, wordings, demo lists and phrases."""
    cases = json.loads((fixture.path / "cases.json").read_bytes())
    return [comparison for number, case in enumerate(cases) for comparison in _case(f"case{number}", case)]


def _case(name: str, case: Mapping[str, Any]) -> list[Comparison]:
    caption, spans = _caption(case)
    encoding = bert_tokenizer().encode(caption)
    tokens = positive_map(spans, encoding.char_to_token)
    labels = case.get("labels") or range(1, len(spans) + 1)
    found: dict[str, object] = {
        "caption": caption,
        "char_spans": [[list(span) for span in label] for label in spans],
        "input_ids": encoding.ids,
        "tokens": encoding.tokens,
        "label_to_tokens": {str(label): own for label, own in zip(labels, tokens, strict=True)},
        "token_to_label": {str(token): label for label, own in zip(labels, tokens, strict=True) for token in own},
        "row_sums": [round(len(own) / (len(own) + 1e-6), 6) for own in tokens],
    }
    return [_same(f"{name}.{key}", found[key], case[key]) for key in found if key in case]


def _caption(case: Mapping[str, Any]) -> tuple[str, list[list[tuple[int, int]]]]:
    match case["kind"]:
        case "category_list":
            plain: Sequence[str | Wording] = [clean_name(one) for one in case["names"]]
            worded = case["prompts"] and [Wording(**one) for one in case["prompts"]]
            prompt = prompt_of(worded or plain, case["separation"])
            return prompt.text, [[span] for span in prompt.spans]
        case "demo_list":
            prompt = prompt_of(case["names"], " . ", closing=True)
            return prompt.text, [[span] for span in prompt.spans]
        case "caption_noun_phrases":
            return case["caption"], [[span] for span in phrase_spans(case["caption"], case["noun_phrases"])]
        case _:
            return case["caption"], [[(span[0], span[1]) for span in label] for label in case["char_spans"]]


def _same(name: str, found: object, wanted: object) -> Comparison:
    same = found == wanted
    return Comparison(name, 0.0 if same else float("inf"), 0.0, 0.0, same, "" if same else f"{found} != {wanted}")


def compare_boxes(name: str, found: Boxes, wanted: Boxes, tolerances: tuple[float, float]) -> list[Comparison]:
    """As sets: every wanted detection has one of its label, with its score and its box; the largest errors of both."""
    missing = abs(len(found.scores) - len(wanted.scores))
    counts = Comparison(f"{name}.count", missing, 0.0, 0.0, not missing, f"{len(found.scores)} boxes")
    if missing:
        return [counts]

    score_atol, box_atol = tolerances
    free = np.ones(len(found.scores), bool)
    worst_score = worst_box = 0.0
    for box, score, label in zip(wanted.boxes, wanted.scores, wanted.labels, strict=True):
        off_box = np.abs(found.boxes - box).max(axis=1)
        off_score = np.abs(found.scores - score)
        distance = np.where(free & (found.labels == label), off_box / box_atol + off_score / score_atol, np.inf)
        nearest = int(distance.argmin())
        if not np.isfinite(distance[nearest]):
            return [counts, Comparison(f"{name}.labels", float("inf"), 0.0, 0.0, False, f"none of label {label}")]
        free[nearest] = False
        worst_box = max(worst_box, float(off_box[nearest]))
        worst_score = max(worst_score, float(off_score[nearest]))
    return [
        counts,
        Comparison(f"{name}.boxes", worst_box, box_atol, 0.0, worst_box <= box_atol),
        Comparison(f"{name}.scores", worst_score, score_atol, 0.0, worst_score <= score_atol),
    ]


def _in_original(name: str, found: Boxes, wanted: Config, atol: float) -> Comparison:
    """Boxes scaled to the picture as it came, each axis by its own ratio."""
    height, width = wanted["resized_image_hw"]
    own_height, own_width = wanted["original_image_hw"]
    ratio = np.array([own_width / width, own_height / height] * 2, np.float32)
    scaled = Boxes(found.boxes * ratio, found.scores, found.labels)
    return compare_boxes(name, scaled, _listed(wanted, "box_original"), (1e-4, atol))[1]


def _listed(wanted: Config, box: str = "box_resized") -> Boxes:
    rows = wanted["detections"]
    return Boxes(
        np.array([row[box] for row in rows], np.float32),
        np.array([row["score"] for row in rows], np.float32),
        np.array([row["label"] - 1 for row in rows], np.int64),
    )


def _sorted(boxes: Tensor, scores: Tensor, labels: Tensor) -> Boxes:
    order: Indices = np.argsort(-scores.numpy(), kind="stable")
    return Boxes(boxes.numpy()[order], scores.numpy()[order], labels.numpy()[order] - 1)


KINDS = (
    FixtureKind("glip-postprocess", lambda config: {"PRE_NMS_TOP_N", "modes"} <= config.keys(), check_postprocess),
    FixtureKind("glip", lambda config: {"post", "swin_dim"} <= config.keys(), check_network),
    FixtureKind("glip-positive-map", lambda config: "fallback_rule" in config, check_positive_map),
)
