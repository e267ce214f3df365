"""The catalog: what can be served, where its weights come from, and the card that travels with a model."""

from models.catalog.card import (
    Batching,
    Card,
    Engine,
    Licence,
    Measurement,
    Pipeline,
    Provenance,
    TensorSpec,
    TextPreprocess,
)
from models.catalog.geometry import ImagePreprocess

__all__ = [
    "Batching",
    "Card",
    "Engine",
    "ImagePreprocess",
    "Licence",
    "Measurement",
    "Pipeline",
    "Provenance",
    "TensorSpec",
    "TextPreprocess",
]
