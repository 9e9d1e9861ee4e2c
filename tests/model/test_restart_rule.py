"""The rule holds in every interleaving, and every way to get it wrong is found."""

import pytest

from .explore import Found, explore
from .restart_rule import Budget, Mutation, Rule, World, complete, violation


def search(budget: Budget, mutation: Mutation = Mutation.NONE, *, second_may_restart: bool = True) -> Found:
    """All states of the rule under a budget of faults."""
    rule = Rule(mutation, second_may_restart=second_may_restart)
    found = explore(World(budget=budget), rule.successors, violation, complete)
    print(f"{mutation.name} {budget}: {found.states} states, {found.violation}")
    return found


@pytest.mark.parametrize(
    "budget",
    [
        Budget(crashes=1, lost_replies=1),
        Budget(crashes=1, failovers=1),
        Budget(lost_replies=1, failovers=1),
        Budget(failovers=2),
        Budget(crashes=1, repairs=1),
        Budget(crashes=1, wipes=1),
    ],
    ids=str,
)
def test_the_rule_holds(budget: Budget) -> None:
    found = search(budget)
    assert found.violation is None, f"after {found.states} states: {found.steps}"


def test_the_rule_holds_when_one_worker_dies_for_good() -> None:
    found = search(Budget(crashes=1, lost_replies=1), second_may_restart=False)
    assert found.violation is None, f"after {found.states} states: {found.steps}"


WRONG: list[tuple[Mutation, Budget, bool]] = [
    (Mutation.NO_COMPARE_AND_SET, Budget(), True),
    (Mutation.RECALL_OUTSIDE_THE_GUARD, Budget(crashes=1, failovers=1), True),
    (Mutation.TAIL_BEFORE_INIT, Budget(), True),
    (Mutation.START_AT_APPLIED_ONLY, Budget(crashes=1), False),
    (Mutation.FLOOR_FALLS, Budget(crashes=1, wipes=1), True),
    (Mutation.NO_IDLE_CHECK, Budget(failovers=1), True),
    (Mutation.REPAIR_WITHOUT_REVISION, Budget(repairs=1), True),
    (Mutation.STALE_TAIL_WAITS, Budget(crashes=1, lost_replies=1), False),
    (Mutation.QUEUE_ENTRY_DROPPED_BEFORE_CONFIRMED, Budget(crashes=1), False),
    (Mutation.FLOOR_NOT_WRITTEN_WHEN_IDLE, Budget(crashes=1, wipes=1), True),
]


@pytest.mark.parametrize(
    ("mutation", "budget", "second_may_restart"),
    WRONG,
    ids=lambda value: value.name if isinstance(value, Mutation) else None,
)
def test_each_way_to_get_it_wrong_is_found(mutation: Mutation, budget: Budget, second_may_restart: bool) -> None:
    found = search(budget, mutation, second_may_restart=second_may_restart)
    assert found.violation is not None, f"{mutation.name} went unseen in {found.states} states"


def test_every_mutation_is_searched() -> None:
    assert {mutation for mutation, _, _ in WRONG} == set(Mutation) - {Mutation.NONE}
