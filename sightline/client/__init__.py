"""The client: :class:`Client` and :class:`AsyncClient` with the same methods, and what they return."""

from sightline.client.asynchronous import AsyncClient
from sightline.client.benchmarks import Comparison, Leaderboard
from sightline.client.blocking import Client
from sightline.client.datasets import Dataset
from sightline.client.errors import APIError, JobFailed, JobTimeout, SightlineError, Unreachable
from sightline.client.images import ImageLike
from sightline.client.job_results import Artifact, Job, JobEvent, Progress
from sightline.client.results import Classification, ClassifiedImage, Embeddings, Explanation, Model, Prediction
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
    "Embeddings",
    "Explanation",
    "ImageLike",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobTimeout",
    "Leaderboard",
    "Model",
    "Prediction",
    "Progress",
    "Retries",
    "SightlineError",
    "Unreachable",
]
