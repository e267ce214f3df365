"""Texts and pictures to vectors."""

from services.embedding.service import Embedded, Embedding

__all__ = ["Embedded", "Embedding"]
