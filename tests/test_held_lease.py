"""A lease held in a block: renewed, released, and an error where it is lost."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from core_tables import Accepted, ContractError, HeldLease, LeaseNotHeldError, Ledger, LedgerSettings, Refused
from core_tables.schemas.reasons import LEASE_HELD_BY_OTHER, LEASE_NOT_FOUND

from .world import World, wait_until

pytestmark = pytest.mark.stack

TENANT = "held"
TTL = timedelta(seconds=3)


@pytest.fixture(scope="module")
def ledger(world: World) -> Iterator[Ledger]:
    given = LedgerSettings(world.settings.kafka_servers(), world.settings.reader(), world.settings.topic)
    with Ledger.connect(given) as made, world.working():
        yield made


def create(ledger: Ledger, work_order_id: str, correlation_id: int) -> None:
    order = ledger.work_order(TENANT, work_order_id, reason_code=1)
    created = order.create(correlation_id=correlation_id, requester_user_id="ada", status="EXECUTING")
    assert created.outcome(30) == Accepted()


def held(ledger: Ledger, work_order_id: str, owner: str) -> HeldLease:
    return HeldLease(ledger, TENANT, work_order_id, owner, ttl=TTL, reason_code=1)


def test_a_lease_is_renewed_while_the_block_runs_and_released_at_its_end(ledger: Ledger) -> None:
    create(ledger, "order-1", 1)
    reads = ledger.reads()
    with held(ledger, "order-1", "one") as lease:
        order = ledger.work_order(TENANT, "order-1", reason_code=1)
        assert order.start_step("book", 0, lease=lease.claim).outcome(30) == Accepted()
        with pytest.raises(LeaseNotHeldError) as refused, held(ledger, "order-1", "two"):
            pytest.fail("two have the lease")
        assert refused.value.reason_code == LEASE_HELD_BY_OTHER
        assert order.change_status("CONFIRM", idempotency_key="confirm").outcome(30) == Accepted()

        def renewed() -> bool:
            found = reads.active_lease(TENANT, "order-1", 0)
            return found is not None and found.renewed_at is not None

        wait_until(renewed, "the lease to be renewed")
        lease.check()
        record = reads.current(TENANT, "order-1")
        assert record is not None
        assert record.work_order_status == "CONFIRM", "a renewal leaves the status as it is"
    with held(ledger, "order-1", "two"):
        pass


def test_a_lease_that_is_lost_is_an_error_in_the_block_and_at_its_end(ledger: Ledger) -> None:
    create(ledger, "order-2", 2)
    other = ledger.work_order(TENANT, "order-2", reason_code=1)

    def lose() -> None:
        with held(ledger, "order-2", "one") as lease:
            assert other.release_lease(*lease.claim).outcome(30) == Accepted()
            wait_until(lambda: lease.lost, "the loss to be noticed")
            with pytest.raises(LeaseNotHeldError):
                lease.check()
            assert isinstance(other.start_step("book", 0, lease=lease.claim).outcome(30), Refused)

    with pytest.raises(LeaseNotHeldError) as at_the_end:
        lose()
    assert at_the_end.value.reason_code == LEASE_NOT_FOUND


def test_an_error_of_the_block_stays_that_error_and_the_lease_is_released(ledger: Ledger) -> None:
    create(ledger, "order-3", 3)
    with pytest.raises(ZeroDivisionError), held(ledger, "order-3", "one"):
        1 / 0  # noqa: B018
    with held(ledger, "order-3", "two"):
        pass
    with pytest.raises(ContractError, match="no such work order"), held(ledger, "nobody", "one"):
        pytest.fail("nobody has a lease on nothing")
