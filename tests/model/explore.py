"""Breadth-first search over every state of a model: safety in each, and a way to completion from each."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)


class Found(NamedTuple):
    """What a search found: nothing wrong (`violation` is None), or what, after which steps."""

    states: int
    violation: str | None
    steps: list[str]


def explore(
    initial: State,
    successors: Callable[[State], Iterable[tuple[str, State]]],
    violation: Callable[[State], str | None],
    complete: Callable[[State], bool],
    limit: int = 3_000_000,
) -> Found:
    """Search all states that can be reached. Besides safety: from each of them a complete state stays reachable."""
    came_from: dict[State, tuple[State, str] | None] = {initial: None}
    predecessors: dict[State, list[State]] = {}
    waiting = deque([initial])
    while waiting:
        state = waiting.popleft()
        wrong = violation(state)
        if wrong is not None:
            return Found(len(came_from), wrong, _steps(came_from, state))
        for label, following in successors(state):
            predecessors.setdefault(following, []).append(state)
            if following not in came_from:
                came_from[following] = (state, label)
                waiting.append(following)
        assert len(came_from) <= limit, f"more than {limit} states: give the model a smaller budget"
    stuck = came_from.keys() - _can_reach((state for state in came_from if complete(state)), predecessors)
    if stuck:
        shortest = min((_steps(came_from, state) for state in stuck), key=len)
        return Found(len(came_from), "stuck: it can never be completed", shortest)
    return Found(len(came_from), None, [])


def _can_reach(goals: Iterable[State], predecessors: dict[State, list[State]]) -> set[State]:
    reached = set(goals)
    waiting = list(reached)
    while waiting:
        for before in predecessors.get(waiting.pop(), ()):
            if before not in reached:
                reached.add(before)
                waiting.append(before)
    return reached


def _steps(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps = []
    origin = came_from[state]
    while origin is not None:
        state, label = origin
        steps.append(label)
        origin = came_from[state]
    return steps[::-1]
