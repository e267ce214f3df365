"""Many dialogs: a user with a goal against the flow, until one of them says goodbye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from services.dialog.acts import Act
from services.dialog.database.table import Table
from services.dialog.policy import Policy
from services.dialog.schema import Action, Schema
from services.dialog.sentences import Sentences, reply
from services.dialog.simulator.dialog import Dialog, Turn
from services.dialog.simulator.goals import Goals
from services.dialog.simulator.texts import Texts
from services.dialog.simulator.user import User
from services.dialog.tracking import update
from services.dialog.values import canonical

MOST_TURNS = 25
_FAILS = 0.1


def simulate(schema: Schema, table: Table | None, count: int, seed: int = 0) -> Iterator[Dialog]:
    """``count`` dialogs, the same for the same seed; each is drawn by a seed of its own, so that they can be cut.

    >>> from services.dialog.ready import ready_bot
    >>> schema, table = ready_bot("restaurant")
    >>> [dialog.id for dialog in simulate(schema, table, 2, seed=7)]
    ['restaurant-7-000000', 'restaurant-7-000001']
    """
    simulator = _Simulator(schema, table)
    for number in range(count):
        yield simulator.dialog(f"{schema.task.id}-{seed}-{number:06d}", Random(f"{seed}/{number}"))  # noqa: S311 - to be repeated


class _Simulator:
    def __init__(self, schema: Schema, table: Table | None) -> None:
        self._schema = schema
        self._goals = Goals(schema, table)
        self._texts = Texts(schema)
        self._sentences = Sentences(schema)
        self._policy = Policy(schema, table)
        self._kinds = {slot.name: slot.type for slot in schema.slots}

    def dialog(self, name: str, random: Random) -> Dialog:
        goal = self._goals.draw(random)
        user, state = User(goal, random), self._policy.start()
        belief: dict[str, str] = {}
        system: tuple[Act, ...] = ()
        turns: list[Turn] = []

        def carried_out(action: Action, slots: Mapping[str, str]) -> Mapping[str, str] | None:
            if random.random() < _FAILS:
                return None
            return {slot: f"{random.randrange(36**8):08x}".upper()[:8] for slot in action.results}

        while len(turns) < MOST_TURNS:
            acts = user.turn(system, belief)
            said = self._texts.say(acts, system, random)
            canonical_acts = [
                Act(a.name, a.slot, canonical(a.value, self._kinds[a.slot])) if a.value else a for a in acts
            ]
            belief = update(belief, canonical_acts, system)

            step = self._policy.step(state, belief, canonical_acts, carried_out)
            answer = reply(self._sentences, step.acts, step.values, len(step.rows), random)
            turns.append(
                Turn(
                    user=said.text,
                    user_acts=tuple(canonical_acts),
                    spans=said.spans,
                    belief=dict(belief),
                    matches=len(step.rows),
                    system_acts=step.acts,
                    system=answer.text,
                    delexicalised=answer.delexicalised,
                    path=step.path,
                    edges=step.edges,
                    action=step.action,
                    offered=state.offered,
                )
            )
            system = step.acts
            if user.done or any(act.name == "bye" for act in system):
                break
        return Dialog(name, goal, tuple(turns), user.satisfied)

    def _canonical(self, act: Act) -> Act:
        """The act with its value in the one form that beliefs have."""
        return act._replace(value=canonical(act.value, self._kinds[act.slot])) if act.value else act
