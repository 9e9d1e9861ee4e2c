"""One act on a work order before it is an event: what its caller said, and what is filled in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypedDict, TypeVar

from core_tables.producer.moments import Moment, nanoseconds
from core_tables.schemas.events import LedgerEvent, Payload
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import EventType, WorkOrderStatus

_T = TypeVar("_T")
NowNs = Callable[[], int]  # gives nanoseconds since 1970
FIRST_TURN: Final = 1


class CommonOptions(TypedDict, total=False):
    """What every act takes, together with its own arguments.

    Attributes:
        reason_code: why, as a code of your own; else the one that the work order was opened with.
        turn_id: the turn that acts; else the last one that is known of the work order.
        created_at: nanoseconds since 1970, or a datetime with a time zone; else the ledger's clock.
        expected_last_event_id: refuse the event unless this is the last event of the work order.
        traceparent: the header of W3C Trace Context; else that of the current span, if OpenTelemetry is in use.
    """

    reason_code: int
    turn_id: int
    created_at: Moment
    expected_last_event_id: int
    traceparent: str


class ActOptions(CommonOptions, total=False):
    """What an act takes that does not name the status itself.

    Attributes:
        status: the status after this event; else the last one that is known of the work order.
    """

    status: WorkOrderStatus


class LeaseClaim(NamedTuple):
    """The lease that a step claims: its event is refused unless the lease is active then."""

    owner_id: str
    token_hash: str


class StepOptions(ActOptions, total=False):
    """What an act on a step takes.

    Attributes:
        step_input_hash: a hash of what the step works on.
        lease: the lease that the step claims.
    """

    step_input_hash: str | None
    lease: LeaseClaim | None


class KnownOfOrder(NamedTuple):
    """What is known of a work order and every event of it has to say. None where it is not known."""

    correlation_id: int | None = None
    turn_id: int | None = None
    status: WorkOrderStatus | None = None


@dataclass(frozen=True, kw_only=True)
class Act:
    """What the caller of an act said."""

    event_type: EventType
    payload: Payload
    options: ActOptions
    idempotency_key: str
    correlation_id: int | None = None
    step_id: str | None = None
    step_input_hash: str | None = None
    lease: LeaseClaim | None = None

    def over(self, known: KnownOfOrder) -> KnownOfOrder:
        """What is known once the caller's own words are taken; the first event of a work order is of its first turn."""
        turn_id = self.options.get("turn_id", known.turn_id)
        if turn_id is None and self.event_type == "WORK_ORDER_CREATED":
            turn_id = FIRST_TURN
        correlation_id = known.correlation_id if self.correlation_id is None else self.correlation_id
        return KnownOfOrder(correlation_id, turn_id, self.options.get("status", known.status))


def event_of(
    act: Act, tenant_id: str, work_order_id: str, known: KnownOfOrder, reason_code: int | None, now: int
) -> LedgerEvent:
    """The event of an act. Raises ContractError, naming the field, for what nobody said."""
    correlation_id, turn_id, status = act.over(known)
    return LedgerEvent(
        created_at=nanoseconds(act.options.get("created_at", now), "created_at"),
        tenant_id=tenant_id,
        work_order_id=work_order_id,
        correlation_id=_given("correlation_id", correlation_id),
        turn_id=_given("turn_id", turn_id),
        event_type=act.event_type,
        work_order_status=_given("work_order_status", status),
        reason_code=_given("reason_code", act.options.get("reason_code", reason_code)),
        expected_last_event_id=act.options.get("expected_last_event_id"),
        step_id=act.step_id,
        step_input_hash=act.step_input_hash,
        lease_owner_id=act.lease.owner_id if act.lease else None,
        lease_token_hash=act.lease.token_hash if act.lease else None,
        idempotency_key=act.idempotency_key,
        payload=act.payload,
    )


def _given(name: str, value: _T | None) -> _T:
    if value is None:
        sentence = f"{name} is not known of this work order; give it to the act, or where the work order is opened"
        raise ContractError(contract_failure(name, sentence))
    return value
