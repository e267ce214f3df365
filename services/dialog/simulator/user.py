"""A simulated user: an agenda that follows from a goal, and answers to what the bot does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from services.dialog.acts import DONT_CARE, Act, Belief
from services.dialog.simulator.dialog import Goal

_ALTERNATIVES = 0.12
_OVER_ANSWERS = 0.15
_OUT_OF_DOMAIN = 0.02


class User:
    """Says acts, not words. Call :meth:`turn` until it has said ``bye``."""

    def __init__(self, goal: Goal, random: Random) -> None:
        self._goal = goal
        self._random = random
        self._wanted = dict(goal.constraints)
        self._unsaid = [slot for slot in goal.constraints if goal.constraints[slot] != DONT_CARE]
        self._requests = list(goal.requests)
        self._alternatives = random.random() < _ALTERNATIVES
        self.done = False
        self.booked = False
        self.gave_up = False

    @property
    def satisfied(self) -> bool:
        """Whether everything that the goal asks for was had."""
        return self.done and not self._requests and not self.gave_up and (self.booked or not self._goal.action)

    def turn(self, system: Sequence[Act], belief: Belief) -> list[Act]:
        """What the user does after ``system``; at the beginning nothing was said."""
        if not system:
            return self._begin()
        if self._random.random() < _OUT_OF_DOMAIN:
            return [Act("unknown")]

        names = [act.name for act in system]
        for act in system:
            if act.name == "inform" and act.slot in self._requests:
                self._requests.remove(act.slot)
        if "notify_success" in names:
            self.booked = True
            return self._after_offer()
        if "notify_failure" in names:
            self.gave_up = True
            return self._leave()
        if "no_match" in names:
            return self._relax()
        if "confirm" in names:
            return self._check(system)
        if "request" in names:
            return self._answer(system)
        if "select" in names:
            chosen = self._random.choice([act for act in system if act.name == "select"])
            return [Act("select", chosen.slot, chosen.value)]
        if "cannot_understand" in names:
            return self._again()
        if "bye" in names:
            self.done = True
            return [Act("bye")]
        if "offer" in names and not self._fits(belief):
            return self._correct(belief)
        if "offer" in names and self._alternatives:
            self._alternatives = False
            return [Act("request_alternatives")]
        return self._after_offer()

    def _begin(self) -> list[Act]:
        acts = [Act("greet")] if self._random.random() < 0.25 else []
        return [*acts, *self._say(self._random.choice((1, 1, 2, 2, 3)))] or [Act("greet")]

    def _say(self, count: int) -> list[Act]:
        said, self._unsaid = self._unsaid[:count], self._unsaid[count:]
        return [Act("inform", slot, self._wanted[slot]) for slot in said]

    def _answer(self, system: Sequence[Act]) -> list[Act]:
        acts: list[Act] = []
        for act in system:
            if act.name != "request":
                continue
            value = self._goal.booking.get(act.slot) or self._wanted.get(act.slot)
            if act.slot in self._unsaid:
                self._unsaid.remove(act.slot)
            if value is None or value == DONT_CARE:
                acts.append(Act("dont_care", act.slot))
            else:
                acts.append(Act("inform", act.slot, value))
        booking = [slot for slot in self._goal.booking if slot not in {act.slot for act in acts}]
        if any(act.slot in self._goal.booking for act in acts) and booking and self._random.random() < _OVER_ANSWERS:
            acts.append(Act("inform", booking[-1], self._goal.booking[booking[-1]]))
        elif self._unsaid and self._random.random() < _OVER_ANSWERS:
            acts += self._say(1)
        return acts

    def _check(self, system: Sequence[Act]) -> list[Act]:
        """Says which of what is to be confirmed is wrong, if something is."""
        wanted = self._wanted | dict(self._goal.booking)
        wrong = [
            act
            for act in system
            if act.name == "confirm" and wanted.get(act.slot, act.value) not in (act.value, DONT_CARE)
        ]
        if wrong:
            return [Act("negate"), *(Act("inform", act.slot, wanted[act.slot]) for act in wrong)]
        return [Act("affirm")]

    def _fits(self, belief: Belief) -> bool:
        return not self._unsaid and all(belief.get(slot, value) == value for slot, value in self._wanted.items())

    def _correct(self, belief: Belief) -> list[Act]:
        """What was not said yet, or was taken wrongly."""
        if self._unsaid:
            return self._say(self._random.choice((1, 2)))
        wrong = [slot for slot, value in self._wanted.items() if belief.get(slot, value) != value]
        return [_wish(slot, self._wanted[slot]) for slot in wrong]

    def _relax(self) -> list[Act]:
        changed = {slot: value for slot, value in self._goal.relaxed.items() if self._wanted.get(slot) != value}
        changed |= {slot: DONT_CARE for slot in self._wanted if self._goal.relaxed and slot not in self._goal.relaxed}
        if not changed:
            self.gave_up = True
            return self._leave()
        self._wanted |= changed
        self._unsaid = [slot for slot in self._unsaid if slot not in changed]
        return [
            Act("dont_care", slot) if value == DONT_CARE else Act("inform", slot, value)
            for slot, value in changed.items()
        ]

    def _after_offer(self) -> list[Act]:
        if self._requests:
            count = self._random.choice((1, 1, 2))
            return [Act("request", slot) for slot in self._requests[:count]]
        if self._goal.action and not self.booked:
            acts = [Act("confirm_action")]
            if self._goal.booking and self._random.random() < 0.4:
                slots = list(self._goal.booking)[: self._random.randint(1, len(self._goal.booking))]
                acts += [Act("inform", slot, self._goal.booking[slot]) for slot in slots]
            return acts
        return self._leave()

    def _again(self) -> list[Act]:
        if self._unsaid:
            return self._say(1)
        return self._after_offer()

    def _leave(self) -> list[Act]:
        self.done = True
        if self._random.random() < 0.4:
            return [Act("thank"), Act("bye")]
        return [Act(self._random.choice(("thank", "bye")))]


def _wish(slot: str, value: str) -> Act:
    return Act("dont_care", slot) if value == DONT_CARE else Act("inform", slot, value)
