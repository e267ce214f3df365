"""What OpenAI's CLIP does to a text before it is tokenised, for the cards that ask for it."""

from __future__ import annotations

import html


def clean_clip(text: str) -> str:
    """Mojibake repaired, curly quotes and ligatures made plain (``ftfy``), HTML entities resolved twice.

    White space and case are left to the tokenizer. Source: openai/CLIP, ``clip/simple_tokenizer.py``, ``basic_clean``.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return text  # nothing that any of the steps would change
    from ftfy import fix_text  # 40 ms to import, and most label sets never need it

    return html.unescape(html.unescape(fix_text(text)))
