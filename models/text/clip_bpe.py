"""CLIP's byte-level BPE as a ``tokenizers`` file, built from the published list of merges. Needs no torch.

The ids follow Hugging Face's ``CLIPTokenizer``, which is what UniCL calls, in everything but the pad: NFC, runs of
white space to one blank, lower case, then BPE; the text begins with 49406 and ends with 49407, also when it is too long
(cut to the context, the last id forced to end-of-text). ELEVATER's tokenizer cuts without an end, and
pooling at the end-of-text token then reads an arbitrary one: that is not copied.

OpenAI's tokenizer differs from this one only where it first cleans the text: mojibake repaired, curly quotes
straightened, ligatures and full-width letters replaced (``ftfy``), HTML entities resolved. A card asks for that with
``text.clean: clip``; it is done before the text reaches this tokenizer. The pad id is OpenAI's 0, not Hugging Face's
49407: a causal tower answers the same for both, a bidirectional one finds its padding by ``id == 0``.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from models.errors import ModelError

MERGES_FILE = Path(__file__).parent / "data" / "bpe_simple_vocab_16e6.txt.gz"
"""The list as OpenAI published it (MIT; licence beside it); serving reads the tokenizer file, never this."""

CONTEXT_LENGTH = 77
VOCABULARY = 49_408
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

_MERGES = VOCABULARY - 2 * 256 - 2
_WORD_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def clip_tokenizer_json(merges_file: Path = MERGES_FILE) -> str:
    """The text of a ``tokenizer.json``: 49,408 ids, no padding and no truncation of its own.

    ``merges_file`` is ``bpe_simple_vocab_16e6.txt``, gzipped or not. Raises :class:`ModelError` when it is not
    that file.
    """
    merges = _read_merges(merges_file)
    letters = list(_byte_letters().values())
    words = letters + [letter + _WORD_END for letter in letters] + ["".join(pair) for pair in merges] + [BEGIN, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    if len(vocabulary) != VOCABULARY:
        raise ModelError(f"{merges_file.name} makes {len(vocabulary):,} different tokens, not {VOCABULARY:,}")

    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_special(vocabulary[word], word) for word in (BEGIN, END)],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "NFC"},
                    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                    {"type": "Lowercase"},
                ],
            },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                ],
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [_piece(BEGIN), {"Sequence": {"id": "A", "type_id": 0}}, _piece(END)],
                "pair": [
                    _piece(BEGIN),
                    {"Sequence": {"id": "A", "type_id": 0}},
                    _piece(END),
                    {"Sequence": {"id": "B", "type_id": 0}},
                    _piece(END),
                ],
                "special_tokens": {
                    word: {"id": word, "ids": [vocabulary[word]], "tokens": [word]} for word in (BEGIN, END)
                },
            },
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                    {"type": "Replace", "pattern": {"String": _WORD_END}, "content": " "},
                ],
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": END,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": _WORD_END,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": [list(pair) for pair in merges],
            },
        },
        ensure_ascii=False,
    )


def _read_merges(file: Path) -> list[tuple[str, str]]:
    """The merges that the vocabulary uses; the published list is five times as long."""
    remedy = "Use bpe_simple_vocab_16e6.txt.gz as published with CLIP."
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read as a list of merges: {error}", remedy) from error
    pairs = [tuple(line.split()) for line in text.split("\n")[1 : _MERGES + 1]]  # the first line is a comment
    if len(pairs) != _MERGES or any(len(pair) != 2 for pair in pairs):
        raise ModelError(f"{file} is not a list of {_MERGES:,} merges or more, two words a line", remedy)
    return [(pair[0], pair[1]) for pair in pairs]


def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte, in the order of the ids: the visible ones of Latin-1 first, as themselves."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


def _special(number: int, word: str) -> dict[str, object]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": number, "content": word, **plain, "normalized": True, "special": True}


def _piece(word: str) -> dict[str, object]:
    return {"SpecialToken": {"id": word, "type_id": 0}}
