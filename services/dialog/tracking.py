"""The belief after a user's turn: what the acts say, in the light of what the bot said before."""

from __future__ import annotations

from collections.abc import Sequence

from services.dialog.acts import DONT_CARE, Act, Belief


def update(belief: Belief, user: Sequence[Act], system: Sequence[Act]) -> dict[str, str]:
    """What is believed after ``user``; ``system`` are the acts of the bot's turn before.

    A value said again overwrites the earlier one. Denying a confirmation takes back what was to be confirmed, but for
    what the same turn says anew; accepting a selection by affirming it takes its only value.
    """
    after = dict(belief)
    said = {act.slot for act in user if act.name in ("inform", "dont_care", "select") and act.slot}
    names = {act.name for act in user}

    if "negate" in names:
        doubted = [act for act in system if act.name == "confirm"]
        # With several at once nobody knows which is wrong, unless the same turn says so.
        if len(doubted) == 1 or not said:
            for act in doubted:
                if act.slot not in said:
                    after.pop(act.slot, None)

    if "affirm" in names:
        selected = [act for act in system if act.name == "select"]
        if len(selected) == 1:
            after[selected[0].slot] = selected[0].value

    for act in user:
        if act.name in ("inform", "select") and act.slot and act.value:
            after[act.slot] = act.value
        elif act.name == "dont_care" and act.slot:
            after[act.slot] = DONT_CARE
    return after
