"""Every dashboard, in the order in which they are looked at."""

from __future__ import annotations

from deploy.grafana.boards.broker import BROKER
from deploy.grafana.boards.jobs import JOBS
from deploy.grafana.boards.models import MODELS
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.triton import TRITON
from deploy.grafana.panels import Board

BOARDS: tuple[Board, ...] = (OVERVIEW, MODELS, JOBS, TRITON, BROKER)
