"""BERT's tokenizer: lower case, accents off, words cut into pieces of a published vocabulary (arXiv 1609.08144)."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

VOCABULARY_FILE = Path(__file__).parent / "data" / "bert_vocab.txt.gz"
BEGIN, END, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


@cache
def bert_tokenizer() -> tokenizers.Tokenizer:
    """That of ``bert-base-uncased``: neither cut nor padded. Its encodings say which characters a token stands for."""
    pieces = gzip.decompress(VOCABULARY_FILE.read_bytes()).decode().splitlines()
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing((END, vocabulary[END]), (BEGIN, vocabulary[BEGIN]))
    made.decoder = decoders.WordPiece()
    return made
