"""The cache shows the fold at its label in every interleaving, and every way to get it wrong is found."""

import pytest

from .cache import Budget, Mutation, Rule, World, complete
from .explore import Found, explore


def search(budget: Budget, mutation: Mutation = Mutation.NONE) -> Found:
    """All states of the cache under a budget of faults."""
    rule = Rule(mutation)
    found = explore(World(budget=budget), rule.successors, rule.violation, complete)
    print(f"{mutation.name} {budget}: {found.states} states, {found.violation}")
    return found


@pytest.mark.parametrize(
    "budget",
    [
        Budget(flushes=1, failovers=0, evictions=1, lost_commits=0),
        Budget(flushes=0, failovers=1, evictions=0, lost_commits=1),
        Budget(flushes=1, failovers=0, evictions=0, lost_commits=1),
    ],
    ids=str,
)
def test_a_list_is_the_fold_at_its_label(budget: Budget) -> None:
    found = search(budget)
    assert found.violation is None, f"after {found.states} states: {found.steps}"


@pytest.mark.parametrize(
    "mutation", [mutation for mutation in Mutation if mutation is not Mutation.NONE], ids=lambda m: m.name
)
def test_each_way_to_get_it_wrong_is_found(mutation: Mutation) -> None:
    found = search(Budget(), mutation)
    assert found.violation is not None, f"{mutation.name} went unseen in {found.states} states"
