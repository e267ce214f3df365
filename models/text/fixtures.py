"""Parity of CLIP's tokenizer: the ids of every string of a fixture."""

from __future__ import annotations

from tokenizers import Tokenizer

from models.parity import Comparison, Fixture
from models.text.clip_bpe import clip_tokenizer_json


def check_clip_tokenizer(fixture: Fixture) -> list[Comparison]:
    """Every text's ids against Hugging Face's tokenizer, padding aside; an error counts the ids that differ."""
    config = fixture.config
    tokenizer = Tokenizer.from_str(clip_tokenizer_json())
    tokenizer.enable_truncation(config["context_length"])
    comparisons = []
    for case in config["cases"]:
        ids = tokenizer.encode(case["text"]).ids
        padded = ids + [config["eos"]] * (config["context_length"] - len(ids))
        differing = sum(ours != theirs for ours, theirs in zip(padded, case["hf_clip_77"], strict=True))
        comparisons.append(Comparison(repr(case["text"][:40]), float(differing), 0.0, 0.0, differing == 0))
    return comparisons
