"""Pictures to ranked labels: closed label sets, and open ones given as text with the request."""

from services.classification.answers import (
    ClassifiedImage,
    ClassifyAnswer,
    ClassifyRequest,
    Explanation,
    Prediction,
)
from services.classification.service import Classification

__all__ = [
    "Classification",
    "ClassifiedImage",
    "ClassifyAnswer",
    "ClassifyRequest",
    "Explanation",
    "Prediction",
]
