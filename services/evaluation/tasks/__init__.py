"""The tasks that data sets are measured by: a row each in :data:`TASKS`, and a file or folder each beside it.

The gateway reads this table to check what is asked for, so nothing here runs a model; what runs one is found by
:func:`services.evaluation.tasks.runners.runner`. A new task is a row in both, and its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TaskName = Literal["classification", "multilabel", "detection"]
MetricName = Literal["accuracy", "mean-per-class", "roc_auc", "11point_mAP", "coco_ap"]

_ONE_LABEL = "takes one label an image; sets with several take 11point_mAP"


@dataclass(frozen=True, slots=True)
class Task:
    """What is true of every data set of a task.

    ``metrics`` may score it, the usual one first; every score is 0 to 1, and more is better. ``unfit`` says of metrics
    that may not why. ``classes`` are the fewest of a set of one's own. ``not_run`` is why benchmark jobs do not run the
    task, ``instead`` what to do then; both are empty for those that they run, which are all today.
    """

    name: TaskName
    metrics: tuple[MetricName, ...]
    unfit: Mapping[str, str] = field(default_factory=dict)
    classes: int = 2
    not_run: str = ""
    instead: str = ""

    def misfit(self, metric: str, classes: int) -> str:
        """Say why ``metric`` cannot be computed for a set with so many classes; empty when it can."""
        if metric not in self.metrics:
            return f"{metric} {self.unfit.get(metric, f'does not fit a {self.name} set')}"
        if metric == "roc_auc" and classes != 2:
            return f"roc_auc takes two classes, and there are {classes}"
        return ""


_ROWS = (
    Task("classification", ("accuracy", "mean-per-class", "roc_auc", "11point_mAP")),
    Task("multilabel", ("11point_mAP",), unfit=dict.fromkeys(("accuracy", "mean-per-class", "roc_auc"), _ONE_LABEL)),
    Task("detection", ("coco_ap",), classes=1),
)

TASKS: dict[str, Task] = {task.name: task for task in _ROWS}
RUN = tuple(task.name for task in _ROWS if not task.not_run)
"""The tasks that benchmark jobs run."""
