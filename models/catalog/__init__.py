"""The catalog: what can be served, where its weights come from, and the card that travels with a model."""

from models.catalog.card import (
    Batching,
    Card,
    Engine,
    ImagePreprocess,
    Licence,
    Measurement,
    Pipeline,
    Provenance,
    TensorSpec,
    TextPreprocess,
)

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
