"""The restart rule holds in every interleaving, and every way to get it wrong is found."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .explore import STUCK, Found, explore
from .restart_rule import RestartRule
from .restart_world import Budget, Mutation, Scenario


def search(scenario: Scenario) -> Found:
    """All states of a scenario; what was found is printed, for `pytest -rP`."""
    found = explore(RestartRule(scenario))
    print(f"{scenario}: {found.states} states, {found.violation}")
    return found


def assert_holds(scenario: Scenario) -> None:
    found = search(scenario)
    assert found.violation is None, f"{found.violation}, in {found.states} states: {' > '.join(found.trace)}"


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(Scenario(Budget(crashes=1, lost_replies=1)), id="a crash and a lost reply"),
        pytest.param(
            Scenario(Budget(crashes=1, lost_replies=1, failovers=1), records=2),
            id="a crash, a lost reply and a failover of Postgres",
        ),
        pytest.param(Scenario(Budget(failovers=1)), id="a failover of Postgres"),
        pytest.param(Scenario(Budget(failovers=2), records=2), id="two failovers of Postgres"),
        pytest.param(Scenario(Budget(crashes=1, repairs=1), records=2), id="a crash and a repair"),
        pytest.param(Scenario(Budget(failovers=1, repairs=1), records=2), id="a failover that may forget a repair"),
        pytest.param(Scenario(Budget(crashes=1, wipes=1)), id="a crash, and retention empties the audit partition"),
    ],
)
def test_the_rule_holds_under(scenario: Scenario) -> None:
    assert_holds(scenario)


def test_the_rule_holds_when_a_worker_dies_for_good() -> None:
    assert_holds(Scenario(Budget(crashes=1, lost_replies=1), records=2, second_dies_for_good=True))


def test_a_full_queue_pauses_the_fold_but_never_for_good() -> None:
    assert_holds(Scenario(Budget(crashes=1, lost_replies=1), queue_bound=1))


# Each mutation with the fewest faults that show it.
CAUGHT: dict[Mutation, Scenario] = {
    Mutation.START_AT_APPLIED_ONLY: Scenario(),
    Mutation.NO_COMPARE_AND_SET: Scenario(),
    Mutation.RECALL_OUTSIDE_THE_GUARD: Scenario(Budget(failovers=1)),
    Mutation.REPAIR_WITHOUT_EPOCH: Scenario(Budget(repairs=1)),
    Mutation.COMMIT_RETRIED: Scenario(Budget(lost_replies=1)),
    Mutation.QUEUE_KEPT_OVER_A_REOPEN: Scenario(),
    Mutation.MEMORY_KEPT_OVER_A_REOPEN: Scenario(),
    Mutation.TAIL_BEFORE_INIT: Scenario(),
    Mutation.STALE_TAIL_WAITS: Scenario(Budget(crashes=1), second_dies_for_good=True),
    Mutation.PRODUCER_KEPT_AFTER_AN_ERROR: Scenario(Budget(lost_replies=1)),
    Mutation.ENTRY_DROPPED_BEFORE_CONFIRMED: Scenario(),
    Mutation.AUDITED_ENTRY_KEPT: Scenario(Budget(crashes=1), queue_bound=1),
    Mutation.WATERMARK_OF_THE_OPENING: Scenario(Budget(wipes=1)),
    Mutation.STOP_DROPS_ITS_QUEUE: Scenario(),
    Mutation.WATERMARK_FALLS: Scenario(Budget(wipes=1)),
    Mutation.WATERMARK_OUTRUNS_THE_AUDIT: Scenario(),
    Mutation.WATERMARK_NOT_WRITTEN_WHEN_IDLE: Scenario(Budget(wipes=1)),
    Mutation.NO_IDLE_CHECK: Scenario(Budget(failovers=1)),
}
LEFT_STUCK = {
    Mutation.STOP_DROPS_ITS_QUEUE,
    Mutation.STALE_TAIL_WAITS,
    Mutation.AUDITED_ENTRY_KEPT,
    Mutation.NO_IDLE_CHECK,
}
# The guard alone keeps this safe. The rule forbids it all the same: reopening is one path for every doubt.
HARMLESS = {Mutation.COMMIT_RETRIED_UNDER_ITS_GUARD}


@pytest.mark.parametrize("records", [2, 3])
@pytest.mark.parametrize("mutation", CAUGHT, ids=lambda mutation: mutation.name.lower())
def test_the_rule_breaks_with(mutation: Mutation, records: int) -> None:
    found = search(replace(CAUGHT[mutation], mutation=mutation, records=records))
    assert found.violation is not None, f"{mutation.name} went unseen in {found.states} states"
    assert (found.violation == STUCK) == (mutation in LEFT_STUCK), f"{found.violation}: {' > '.join(found.trace)}"


@pytest.mark.parametrize(
    "budget",
    [Budget(lost_replies=1, crashes=1), Budget(lost_replies=1, repairs=1), Budget(lost_replies=2)],
    ids=["a crash", "a repair", "another lost reply"],
)
def test_a_commit_tried_again_under_its_guard_does_no_harm_even_with(budget: Budget) -> None:
    assert_holds(Scenario(budget, Mutation.COMMIT_RETRIED_UNDER_ITS_GUARD, records=2))


def test_every_mutation_is_searched() -> None:
    assert CAUGHT.keys() | HARMLESS == set(Mutation) - {Mutation.NONE}


def test_what_no_rule_can_hold_is_seen_as_broken() -> None:
    """The known rest, and why retention.ms is -1: retention empties the audit partition, and Postgres forgets the watermark."""
    assert search(Scenario(Budget(failovers=1, wipes=1), records=2)).violation is not None


def test_the_script_searches_with_a_budget_of_its_own() -> None:
    script = Path(__file__).with_name("search.py")
    command = [sys.executable, str(script), "--records", "1", "--crashes", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("it holds\n")
