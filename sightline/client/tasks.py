"""The table of what a client can do. A new task is a file with its class, and the class's name among these bases."""

from __future__ import annotations

from sightline.client.benchmarks import Benchmarks
from sightline.client.bots import Bots
from sightline.client.classify import Classify
from sightline.client.datasets import Datasets
from sightline.client.detect import Detect
from sightline.client.embeddings import Embed
from sightline.client.halves import N
from sightline.client.jobs import Jobs
from sightline.client.models import Models
from sightline.client.retries import Retries


class Tasks(
    Classify[N],
    Detect[N],
    Embed[N],
    Models[N],
    Benchmarks[N],
):
    """The methods of both clients; resources with several methods of their own are attributes."""

    def __init__(self, network: N, retries: Retries) -> None:
        super().__init__(network, retries)
        self.bots = Bots(network, retries)
        self.datasets = Datasets(network, retries)
        self.jobs = Jobs(network, retries)
