"""Dialogs made from a schema and its rows: a user with a goal talks to the flow; everything is annotated.

The first of SYNERGY's two steps: symbolic knowledge becomes training data.
"""

from services.dialog.simulator.dialog import Dialog, Turn
from services.dialog.simulator.run import simulate

__all__ = ["Dialog", "Turn", "simulate"]
