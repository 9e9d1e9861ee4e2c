"""Breadth-first search over every state of a model: safety in each, and a way to completion from each."""

import gc
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)

STUCK = "stuck: from here it can never be completed"


class Model(Protocol[State]):
    """What can be searched: where it begins, what can happen next, what must never be, and what it is all for."""

    def initial(self) -> State:
        """Where it begins."""
        ...

    def steps(self, state: State) -> Iterable[tuple[str, State]]:
        """Everything that can happen next, each with its label."""
        ...

    def violation(self, state: State) -> str | None:
        """What is wrong with a state, if anything is."""
        ...

    def canonical(self, state: State) -> State:
        """Of states that differ only in which worker is called which, always the same one: only that one is searched."""
        ...

    def complete(self, state: State) -> bool:
        """Whether nothing is left to do."""
        ...


class Found(NamedTuple):
    """What a search found: nothing wrong (`violation` is None), or what, and the shortest way there."""

    states: int
    violation: str | None
    trace: tuple[str, ...]


def explore(model: Model[State], limit: int = 3_000_000) -> Found:
    """Search all states that can be reached. Besides safety: from each of them a complete state stays reachable.

    States are numbered in the order they are found, so each is hashed once per step that leads to it, and no more.
    """
    with _collector_off():
        return _explore(model, limit)


def _explore(model: Model[State], limit: int) -> Found:
    numbers: dict[State, int] = {model.canonical(model.initial()): 0}
    states: list[State] = list(numbers)
    parents = [0]
    predecessors: list[list[int]] = [[]]
    for number, state in enumerate(states):  # grows while it is walked
        wrong = model.violation(state)
        if wrong is not None:
            return Found(len(states), wrong, _trace(model, states, parents, number))
        for _, after in model.steps(state):
            following = model.canonical(after)
            known = numbers.setdefault(following, len(states))
            if known == len(states):
                states.append(following)
                parents.append(number)
                predecessors.append([number])
            else:
                predecessors[known].append(number)
        if len(states) > limit:
            raise RuntimeError(f"more than {limit} states: give the model a smaller budget")
    hopeful = _can_complete(model, states, predecessors)
    stuck = next((number for number in range(len(states)) if not hopeful[number]), None)
    if stuck is None:
        return Found(len(states), None, ())
    return Found(len(states), STUCK, _trace(model, states, parents, stuck))


@contextmanager
def _collector_off() -> Iterator[None]:
    """States hold no cycles, yet the collector would walk all of them again and again: a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _can_complete(model: Model[State], states: list[State], predecessors: list[list[int]]) -> bytearray:
    """By number, whether a complete state can be reached: walk backwards from all that are complete."""
    hopeful = bytearray(len(states))
    waiting = [number for number, state in enumerate(states) if model.complete(state)]
    for number in waiting:
        hopeful[number] = 1
    while waiting:
        for before in predecessors[waiting.pop()]:
            if not hopeful[before]:
                hopeful[before] = 1
                waiting.append(before)
    return hopeful


def _trace(model: Model[State], states: list[State], parents: list[int], number: int) -> tuple[str, ...]:
    """The labels of the steps from the beginning to a state, or to one that differs in which worker is called which."""
    path: list[int] = []
    while number:
        path.append(number)
        number = parents[number]
    state, labels = model.initial(), []
    for number in reversed(path):
        label, state = next(step for step in model.steps(state) if model.canonical(step[1]) == states[number])
        labels.append(label)
    return tuple(labels)
