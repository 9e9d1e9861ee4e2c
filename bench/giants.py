"""A requester, a tenant and a work order that are a thousand times larger than usual: their rows, and events of theirs.

SQL inserts what is there already. The ids of those rows are of lane 0, and the tenant is in another one, so they do not meet
those of the topic.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final, LiteralString, NamedTuple

from msgspec.structs import replace

from bench import events, stocked
from bench.place import PARTITIONS
from core_tables.schemas import events as payloads
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import partition_of
from core_tables.settings.environment import Settings

TENANT: Final = "tenant-0"
REQUESTER: Final = "requester-{}"  # by the number of its open work orders
WORK_ORDER: Final = "giant"
STEP: Final = "reserve-seats"
_AT: Final = events.START
_CORRELATION: Final = 200_000_000_000

_REQUESTER: Final[LiteralString] = """
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code,
    last_updated_at, requester_user_id, process_id, intent_type, fields_json, missing_fields_json, asked_fields_json,
    resolved_fields_json, prompt_dedupe_keys_json, external_approval_pending, created_at
)
select
    'tenant-0', %(orders)s || n, 200000000000::numeric + %(first)s + n, 1,
    (array['DRAFT', 'CLARIFY', 'CONFIRM'])[1 + mod(n, 3)], %(first)s + n, 1000, %(at)s + n,
    %(requester)s || case when %(shared)s then '' else '-' || n end, 'booking', 'BOOK_TRIP', '{"city": "Lisbon"}',
    '["date", "party"]', '{}', '{}', '[]', false, %(at)s + n
from generate_series(1::bigint, %(open)s) as n
"""
_WORK_ORDER: Final[LiteralString] = """
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code,
    last_updated_at, requester_user_id, process_id, intent_type, fields_json, missing_fields_json, asked_fields_json,
    resolved_fields_json, prompt_dedupe_keys_json, external_approval_pending, created_at
)
select
    'tenant-0', 'giant', 199999999999::numeric, 1, 'EXECUTING', 100000000 + %(events)s, 1000, %(at)s, 'requester-of-giant',
    'booking', 'BOOK_TRIP', '{"city": "Lisbon"}', '[]', '{}', '{}', '[]', false, %(at)s
"""
_ITS_LEDGER: Final[LiteralString] = """
insert into os_core.work_order_ledger (
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id, event_type,
    status_before, work_order_status, reason_code, idempotency_key, payload
)
select
    'tenant-0', 100000000 + n, 1, %(at)s, 'giant', 199999999999::numeric, 1, 'FIELD_SET', 'EXECUTING', 'EXECUTING', 1000,
    'before:' || n, '{"field_key": "city", "value": "Lisbon"}'
from generate_series(1::bigint, %(events)s) as n
"""
_ITS_ATTEMPTS: Final[LiteralString] = """
insert into os_core.work_order_step_attempts (
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries, retry_backoff_ms, started_at,
    finished_at, reason_code, due_at
)
select
    'tenant-0', 'giant', 'reserve-seats', n, case when n < %(open_attempts)s then 'RUNNING' else 'SUCCEEDED' end, 30000, 3,
    500, %(at)s, case when n < %(open_attempts)s then null else %(at)s end, 1000,
    case when n < %(open_attempts)s then %(at)s + 30000000000 end
from generate_series(0, %(attempts)s - 1) as n
"""


class Size(NamedTuple):
    """How many open work orders the requester has, and how many events, attempts and open attempts the work order."""

    open: int
    events: int
    attempts: int
    open_attempts: int


LARGE: Final = Size(1_000_000, 100_000, 5_000, 2_500)


class Orders(NamedTuple):
    """Open work orders: how many, and whether they are of one requester or each of another."""

    open: int
    shared: bool = True

    @property
    def first(self) -> int:
        """What their numbers are added to, in ids."""
        return self.open * (10 if self.shared else 20)

    def order(self, number: object = "") -> str:
        """The id of one of them."""
        return f"of-{self.open}-{number}" if self.shared else f"of-as-many-{number}"


def requesters(settings: Settings, sizes: tuple[int, ...]) -> None:
    """Requesters with that many open work orders each."""
    for size in sizes:
        _insert_orders(settings, Orders(size))


def insert(settings: Settings, size: Size) -> None:
    """The requester, as many requesters with one work order each, and the work order."""
    for orders in (Orders(size.open), Orders(size.open, shared=False)):
        _insert_orders(settings, orders)
    stocked.fill(settings, size._asdict(), (_WORK_ORDER, _ITS_LEDGER, _ITS_ATTEMPTS))


def _insert_orders(settings: Settings, orders: Orders) -> None:
    given: dict[str, int | str] = {
        "open": orders.open,
        "shared": orders.shared,
        "orders": orders.order(),
        "first": orders.first,
        "requester": REQUESTER.format(orders.open),
    }
    stocked.fill(settings, given, (_REQUESTER,), ("work_orders_current",))


def neighbour() -> str:
    """Another tenant in the giant tenant's lane."""
    lane = partition_of(TENANT.encode(), PARTITIONS)
    names = (f"tenant-{number}" for number in range(1, 1000))
    return next(name for name in names if partition_of(name.encode(), PARTITIONS) == lane)


def ordinary(name: str, tenant: str | None = None) -> Iterator[LedgerEvent]:
    """Events of ordinary work orders whose ids begin with a name; of one tenant, or of the fifty."""
    first = sum(name.encode()) << 100  # so that correlations are of this name alone
    for event in events.day(10_000_000):
        yield replace(
            event,
            tenant_id=tenant or event.tenant_id,
            work_order_id=f"{name}-{event.work_order_id}",
            correlation_id=first + event.correlation_id,
            idempotency_key=f"{name}-{event.idempotency_key}",
        )


def of_orders(orders: Orders) -> Iterator[LedgerEvent]:
    """A field of one of these work orders after the other, far apart."""
    base = next(ordinary("requester"))
    for number in range(10_000_000):
        order = 1 + number * 7_919 % orders.open
        yield replace(
            base,
            created_at=_AT + orders.open + number * events.STEP_NS,
            tenant_id=TENANT,
            work_order_id=orders.order(order),
            correlation_id=_CORRELATION + orders.first + order,
            event_type="FIELD_SET",
            work_order_status="CLARIFY",
            idempotency_key=f"now:{number}",
            payload=payloads.FieldSet("city", number),
        )


def of_the_work_order(attempts: int) -> Iterator[LedgerEvent]:
    """Its next steps begin and end, and a field of it changes."""
    base = next(ordinary("work-order"))
    made = partial(
        replace,
        base,
        tenant_id=TENANT,
        work_order_id=WORK_ORDER,
        correlation_id=_CORRELATION - 1,
        work_order_status="EXECUTING",
    )
    for number in range(10_000_000):
        attempt, kind = attempts + number // 3, number % 3
        when = {"created_at": _AT + number * events.STEP_NS, "idempotency_key": f"now:{number}"}
        if kind == 0:
            payload = payloads.StepStarted(attempt, 30_000, 3, 500)
            yield made(**when, event_type="STEP_STARTED", step_id=STEP, payload=payload)
        elif kind == 1:
            yield made(**when, event_type="STEP_FINISHED", step_id=STEP, payload=payloads.StepFinished(attempt))
        else:
            yield made(**when, event_type="FIELD_SET", payload=payloads.FieldSet("city", number))
