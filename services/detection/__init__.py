"""Pictures to boxes: closed sets of classes, labels and examples of a request, phrases of a caption."""

from services.detection.answers import (
    DetectAnswer,
    DetectedImage,
    DetectRequest,
    GroundAnswer,
    GroundedImage,
    GroundRequest,
    LabelledExample,
    Limits,
)
from services.detection.service import Detecting

__all__ = [
    "DetectAnswer",
    "DetectRequest",
    "DetectedImage",
    "Detecting",
    "GroundAnswer",
    "GroundRequest",
    "GroundedImage",
    "LabelledExample",
    "Limits",
]
