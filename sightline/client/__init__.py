"""The client: :class:`Client` and :class:`AsyncClient` with the same methods, and what they return."""

from sightline.client.benchmarks import Comparison, Leaderboard
from sightline.client.classify import Classification, ClassifiedImage, Explanation, Prediction
from sightline.client.client import AsyncClient, Client
from sightline.client.datasets import Dataset
from sightline.client.detect import (
    DetectedImage,
    Detection,
    Detections,
    Example,
    GroundedImage,
    Phrase,
    PhraseBox,
)
from sightline.client.embeddings import Embeddings
from sightline.client.errors import APIError, JobFailed, JobTimeout, SightlineError, Unreachable
from sightline.client.images import ImageLike
from sightline.client.job_results import Artifact, Job, JobEvent, Progress
from sightline.client.models import Model
from sightline.client.reading import Note, Truncated
from sightline.client.retries import Retries

__all__ = [
    "APIError",
    "Artifact",
    "AsyncClient",
    "Classification",
    "ClassifiedImage",
    "Client",
    "Comparison",
    "Dataset",
    "DetectedImage",
    "Detection",
    "Detections",
    "Embeddings",
    "Example",
    "Explanation",
    "GroundedImage",
    "ImageLike",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobTimeout",
    "Leaderboard",
    "Model",
    "Note",
    "Phrase",
    "PhraseBox",
    "Prediction",
    "Progress",
    "Retries",
    "SightlineError",
    "Truncated",
    "Unreachable",
]
