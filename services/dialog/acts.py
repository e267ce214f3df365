"""What is said in a dialog, without its words: acts, the user's belief, and the goal behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DONT_CARE = "dont care"
"""The value of a slot for which anything is right, as SOLOIST writes it."""

USER_ACTS = (
    "greet", "inform", "dont_care", "request", "request_alternatives", "select",
    "affirm", "negate", "confirm_action", "thank", "bye", "unknown",
)  # fmt: skip
"""What a user can do in a turn; ``unknown`` is what the model cannot place, and falls back."""

SYSTEM_ACTS = (
    "greet", "request", "inform", "confirm", "offer", "select", "no_match", "notify_success", "notify_failure",
    "cannot_understand", "bye",
)  # fmt: skip

Belief = Mapping[str, str]
"""Slot to value, in the order in which they were first said; :data:`DONT_CARE` where anything is right."""


class Act(NamedTuple):
    """One thing done in a turn: ``Act("inform", "food", "thai")``, ``Act("request", "phone")``, ``Act("bye")``.

    >>> str(Act("inform", "food", "thai"))
    'inform(food=thai)'
    """

    name: str
    slot: str = ""
    value: str = ""

    def __str__(self) -> str:
        inside = self.slot if not self.value else f"{self.slot}={self.value}"
        return f"{self.name}({inside})" if inside else self.name

    @property
    def key(self) -> str:
        """Its name with the slot and without the value, as templates are keyed: ``inform(food)``."""
        return f"{self.name}({self.slot})" if self.slot else self.name


def without_indifference(belief: Belief) -> dict[str, str]:
    """What of a belief constrains a search."""
    return {slot: value for slot, value in belief.items() if value != DONT_CARE}
