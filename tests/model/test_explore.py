"""A search that does not distinguish the two workers reaches the states of one that does."""

from collections.abc import Hashable
from typing import TypeVar

from . import cache_world, restart_world
from .cache import CacheRule
from .explore import Model
from .restart_rule import RestartRule

State = TypeVar("State", bound=Hashable)


def reachable(model: Model[State], *, workers_distinct: bool) -> set[State]:
    """All states, or one of each pair that differs only in which worker is called which."""
    states = {model.initial()}
    waiting = list(states)
    while waiting:
        for _, after in model.steps(waiting.pop()):
            following = after if workers_distinct else model.canonical(after)
            if following not in states:
                states.add(following)
                waiting.append(following)
    return states


def test_the_restart_rule_reaches_the_same_states_whichever_worker_is_called_which() -> None:
    budget = restart_world.Budget(crashes=1, lost_replies=1)
    model = RestartRule(restart_world.Scenario(budget, records=1))
    found = reachable(model, workers_distinct=False)
    assert found | set(map(restart_world.exchanged, found)) == reachable(model, workers_distinct=True)


def test_the_cache_reaches_the_same_states_whichever_worker_is_called_which() -> None:
    model = CacheRule(cache_world.Scenario(cache_world.Budget(flushes=1), records=2))
    found = reachable(model, workers_distinct=False)
    assert found | set(map(cache_world.exchanged, found)) == reachable(model, workers_distinct=True)
