"""A list that the cache shows is the fold at its label in every interleaving, and every way to get it wrong is found."""

import pytest

from .cache import CacheRule
from .cache_world import Budget, Mutation, Scenario
from .explore import STUCK, Found, explore


def search(scenario: Scenario) -> Found:
    """All states of a scenario; what was found is printed, for `pytest -rP`."""
    found = explore(CacheRule(scenario))
    print(f"{scenario}: {found.states} states, {found.violation}")
    return found


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(Scenario(Budget(flushes=1)), id="FLUSHALL"),
        pytest.param(Scenario(Budget(failovers=1)), id="a failover of Redis"),
        pytest.param(Scenario(Budget(evictions=1)), id="an eviction"),
        pytest.param(Scenario(Budget(lost_commits=1)), id="a lost commit of Postgres"),
        pytest.param(Scenario(Budget(repairs=1)), id="a repair"),
        pytest.param(Scenario(Budget(repairs=1, lost_commits=1), records=2), id="a repair and a lost commit"),
        pytest.param(
            Scenario(Budget(flushes=1, evictions=1, lost_commits=1), records=2),
            id="FLUSHALL, an eviction and a lost commit",
        ),
        pytest.param(
            Scenario(Budget(failovers=1, lost_commits=1), records=2),
            id="a failover of Redis and a lost commit",
        ),
    ],
)
def test_a_list_is_the_fold_at_its_label_and_comes_back_after(scenario: Scenario) -> None:
    found = search(scenario)
    assert found.violation is None, f"{found.violation}, in {found.states} states: {' > '.join(found.trace)}"


CAUGHT: dict[Mutation, Budget] = {
    Mutation.FILL_WITHOUT_FENCE: Budget(),
    Mutation.FILL_FENCED_BY_NONCE_ONLY: Budget(),
    Mutation.SNAPSHOT_NOT_AT_THE_LABEL: Budget(),
    Mutation.CHANGES_APPLIED_AT_ANY_POSITION: Budget(),
    Mutation.APPLIED_WHEN_THE_LABEL_IS_AHEAD: Budget(),
    Mutation.MISSING_LABEL_ADOPTED: Budget(evictions=1),
    Mutation.LABEL_BEHIND_ADOPTED: Budget(),
    Mutation.ABSENT_LIST_MEANS_EMPTY: Budget(),
    Mutation.LABEL_WITHOUT_EPOCH: Budget(repairs=1),
    Mutation.FILL_ACROSS_A_REPAIR: Budget(repairs=1),
    Mutation.NO_LABEL_CHECK: Budget(flushes=1),
    Mutation.NONCE_NOT_COMPARED: Budget(),
    Mutation.LABEL_READ_BEFORE_THE_LIST: Budget(),
    Mutation.MARKER_IGNORED: Budget(),
    Mutation.WINDOW_REACHES_THE_MARKER: Budget(),
    Mutation.FILLED_WITHOUT_MARKER: Budget(),
    Mutation.ADDED_BELOW_THE_MARKER: Budget(),
    Mutation.CUT_WITHOUT_MARKER: Budget(),
    Mutation.OLD_ENTRY_LEFT: Budget(),
}


@pytest.mark.parametrize("mutation", CAUGHT, ids=lambda mutation: mutation.name.lower())
def test_the_cache_breaks_with(mutation: Mutation) -> None:
    found = search(Scenario(CAUGHT[mutation], mutation))
    assert found.violation is not None, f"{mutation.name} went unseen in {found.states} states"
    assert (found.violation == STUCK) == (mutation is Mutation.NO_LABEL_CHECK), found.violation


def test_every_mutation_is_searched() -> None:
    assert CAUGHT.keys() == set(Mutation) - {Mutation.NONE}
