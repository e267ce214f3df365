"""A byte-level BPE of one's own texts, in the form that a UniCL text tower takes.

Lower case, NFC. Id 0 pads; the two largest ids begin and end a text, the end being the largest of all, where the tower
takes its state. Every byte has an id, so no text is unknown, in whatever language.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, BEGIN, END = "<pad>", "<|startoftext|>", "<|endoftext|>"
LEAST = 1 + 256 + 2
"""The pad, every byte, begin and end: no vocabulary can be smaller."""


def train_bpe(texts: Iterable[str], size: int) -> str:
    """The text of a ``tokenizer.json`` of at most ``size`` ids; fewer where the texts give no more merges.

    The same texts give the same ids. Raises ``ValueError`` for a ``size`` below :data:`LEAST`.
    """
    if size < LEAST:
        raise ValueError(f"a vocabulary of {size} has no room for every byte; {LEAST} is the least")

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        special_tokens=[PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(BEGIN, special=True), AddedToken(END, special=True)])
    ends = [(word, tokenizer.token_to_id(word)) for word in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ends)
    return str(tokenizer.to_str())


def vocabulary_size(tokenizer_json: str) -> int:
    """Return how many ids a tokenizer has."""
    return int(Tokenizer.from_str(tokenizer_json).get_vocab_size())
