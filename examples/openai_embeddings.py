"""The official ``openai`` client against Sightline: ``python openai_embeddings.py 'one text' 'another' ...``."""

from __future__ import annotations

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("SIGHTLINE_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("SIGHTLINE_API_KEY", "none"),
)
answer = client.embeddings.create(model="minilm-l6", input=sys.argv[1:])
first = answer.data[0].embedding
for text, entry in zip(sys.argv[1:], answer.data, strict=True):
    cosine = sum(a * b for a, b in zip(first, entry.embedding, strict=True))
    print(f"{cosine:+.3f}  {text}")
