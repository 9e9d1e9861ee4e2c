"""What all reads share: one tenant a statement, in one round trip, over connections that a deadline limits; and pages."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Final, Protocol, Self, TypeVar

from core_tables.projection.postgres.keys import LaneName
from core_tables.projection.postgres.lane_pools import Pools
from core_tables.projection.postgres.lanes import LanePosition, folded_past, unknown_lane
from core_tables.projection.postgres.pipeline import Answer, Parameter
from core_tables.projection.postgres.read_pool import READ_TIMEOUT_S, ReadPool
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import (
    TENANT_SCOPE_VIOLATION,
    ContractError,
    CoreTablesError,
    UnavailableError,
    contract_failure,
)
from core_tables.schemas.validation import TENANT_ID_RULE
from core_tables.schemas.vocabulary import MAX_I64, UNATTRIBUTED
from core_tables.schemas.wire import is_tenant_id

MAX_PAGE: Final = 1000
_LOOK_EVERY_S: Final = 0.05


class _OfTenant(Protocol):
    @property
    def tenant_id(self) -> str | None: ...


_R = TypeVar("_R", bound=_OfTenant)
_T = TypeVar("_T")
_U = TypeVar("_U")

Cursor = tuple[int | str, ...]
# The columns that a statement orders by after the tenant, each with a value below all others.
Order = Mapping[str, int | str]


class Page(list[_T]):
    """A list of what a read found. Iterating over it gives this page; `all` continues with the pages after it.

    `next` is the cursor to give as `after` for the next page, in another process too; None if this is the last. A cursor is a
    tuple of numbers and texts, and stays valid for as long as the answers are asked for in the same way.
    """

    def __init__(self, items: Iterable[_T], next: Cursor | None, follow: "Callable[[Cursor], Page[_T]]") -> None:  # noqa: A002
        super().__init__(items)
        self.next = next
        self._follow = follow

    def following(self) -> "Page[_T]":
        """The next page, which is read now; an empty one after the last."""
        return Page((), None, self._follow) if self.next is None else self._follow(self.next)

    def all(self) -> Iterator[_T]:
        """What is on this page and on all pages after it. Each is read when its first item is asked for."""
        page = self
        while page:
            yield from page
            page = page.following()

    def made(self, make: Callable[[_T], _U]) -> "Page[_U]":
        """The same page with something made of each item."""
        return Page(map(make, self), self.next, lambda cursor: self._follow(cursor).made(make))


# Waits until a lane is folded up to an offset, or until a deadline in monotonic seconds; how far it is folded.
WaitFolded = Callable[[int, int, float], int]


class TenantReads:
    """Reads of one tenant each. The subclasses are the reads by subject; `Reads` is all of them."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._deadline: float | None = None
        self._wait_folded: WaitFolded | None = None

    def until(self, deadline: float) -> Self:
        """The same reads, each of which ends by `deadline` (monotonic seconds). They share the connections."""
        limited = copy.copy(self)
        limited._deadline = deadline
        return limited

    def wait_with(self, wait_folded: WaitFolded) -> None:
        """Let reads that are asked for `at_least` an event be woken when it is folded; otherwise they ask again and again."""
        self._wait_folded = wait_folded

    def close(self) -> None:
        """Close the connections."""
        self._pools.close()

    def _tenant_rows(
        self, kind: type[_R], tenant_id: str, statement: str, *, at_least: int = 0, **parameters: Parameter
    ) -> list[_R]:
        """Run one statement that may see one tenant: setting and statement go in one round trip.

        The tenant is the statement's first parameter, the others follow in their order. With `at_least`, what is read includes
        the effect of that event: if its lane is not folded so far, it is waited for. Raises UnavailableError if it takes too long.
        """
        checked_parameters(tenant_id, at_least=at_least, **parameters)
        rows: list[_R] = []
        for pool in self._pools.of_tenant(tenant_id, self._deadline):
            needed = at_least if at_least and pool is self._pools.of_lane(lane_of(at_least)) else 0
            rows += self._rows_in(pool, kind, tenant_id, statement, needed, parameters)
        return rows

    def _rows_in(
        self,
        pool: ReadPool,
        kind: type[_R],
        tenant_id: str,
        statement: str,
        at_least: int,
        parameters: Mapping[str, Parameter],
    ) -> list[_R]:
        limit = time.monotonic() + READ_TIMEOUT_S if self._deadline is None else self._deadline
        while True:
            folded: Answer[LanePosition] | None = None
            with pool.transaction(self._deadline) as pipeline:
                if at_least > 0:  # the statements after this one see at least what it has seen
                    folded = pipeline.fetch(LanePosition, "load_lanes", [LaneName(lane_of(at_least))])
                pipeline.add("set_tenant", tenant_id)
                answer = pipeline.fetch(kind, statement, tenant_id, *parameters.values())
            if folded is None or _covers(folded.rows, at_least):
                return rows_of_tenant(tenant_id, answer.rows)
            self._wait_for(at_least, limit)

    def _wait_for(self, event_id: int, limit: float) -> None:
        now = time.monotonic()
        if now >= limit:
            raise UnavailableError(
                "postgres", f"event {event_id} is not folded yet; check that a worker is running (`core-tables status`)"
            )
        if self._wait_folded is not None:
            self._wait_folded(lane_of(event_id), offset_of(event_id) + 1, limit)
        else:
            time.sleep(min(_LOOK_EVERY_S, limit - now))

    def _page(
        self,
        kind: type[_R],
        tenant_id: str,
        statement: str,
        order: Order,
        *,
        after: Cursor | None,
        page_size: int,
        at_least: int,
        newest_first: bool = False,
        **parameters: Parameter,
    ) -> Page[_R]:
        """A page of rows. The statement's last parameters are the cursor, and how many rows to read: one more than asked for."""
        check_page(page_size)
        start = checked_cursor(after, order)
        rows = self._tenant_rows(
            kind, tenant_id, statement, at_least=at_least, **parameters, **start, limit=page_size + 1
        )
        rows = merged(tenant_id, rows, order, page_size + 1, newest_first=newest_first)

        def follow(cursor: Cursor) -> Page[_R]:
            return self._page(
                kind,
                tenant_id,
                statement,
                order,
                after=cursor,
                page_size=page_size,
                at_least=at_least,
                newest_first=newest_first,
                **parameters,
            )

        return page_of(rows, order, page_size, follow)


def page_of(rows: list[_T], order: Order, page_size: int, follow: Callable[[Cursor], Page[_T]]) -> Page[_T]:
    """The page that rows make if one more than its size was read."""
    items = rows[:page_size]
    more = len(rows) > page_size
    return Page(items, tuple(getattr(items[-1], name) for name in order) if more else None, follow)


def merged(tenant_id: str, rows: list[_T], order: Order, limit: int, *, newest_first: bool = False) -> list[_T]:
    """The rows that a page is made of. Those of no tenant may be from several databases, each in order."""
    if tenant_id != UNATTRIBUTED:
        return rows
    return sorted(rows, key=attrgetter(*order), reverse=newest_first)[:limit]


def checked_cursor(after: Cursor | None, order: Order) -> dict[str, int | str]:
    """Where a page starts, by column. Raises ContractError for a cursor of another read."""
    values = tuple(order.values()) if after is None else after
    if [type(value) for value in values] != [type(lowest) for lowest in order.values()]:
        raise ContractError(
            contract_failure("after", f"after is not a cursor of this read, which has {', '.join(order)}")
        )
    return {f"after_{name}": value for name, value in zip(order, values, strict=True)}


def rows_of_tenant(tenant_id: str, rows: list[_R]) -> list[_R]:
    """The rows. Raises CoreTablesError if one is of another tenant.

    The database sees to that. But a connection that is shared wrongly answers what another program asked.
    """
    if not {row.tenant_id for row in rows} <= {tenant_id, None}:
        raise CoreTablesError(
            "Postgres answered with rows of another tenant, and none of them was returned; see that no other process or "
            "thread uses the connection of these reads",
            reason_code=TENANT_SCOPE_VIOLATION,
        )
    return rows


def _covers(lanes: list[LanePosition], event_id: int) -> bool:
    """Whether the lane of an event is folded past it. Raises SetupError if the database does not know the lane."""
    if not lanes:
        raise unknown_lane(lane_of(event_id))
    return folded_past(lanes[0].applied, event_id)


def checked_parameters(tenant_id: str, **parameters: object) -> None:
    """Raises ContractError, naming it, for a parameter of a read that no column could hold."""
    if not is_tenant_id(tenant_id) and tenant_id != UNATTRIBUTED:
        raise ContractError(contract_failure("tenant_id", TENANT_ID_RULE))
    checked_values(**parameters)


def checked_values(**parameters: object) -> None:
    """The same for parameters of a read that is of no tenant."""
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, str) and not _is_text(item):
                raise ContractError(contract_failure(name, f"{name} must be valid UTF-8 without U+0000"))
            if isinstance(item, int) and not -MAX_I64 <= item <= MAX_I64:
                raise ContractError(contract_failure(name, f"{name} does not fit into 64 bits"))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return "\0" not in value


def check_page(size: int) -> None:
    """Raises ContractError for a number of rows that no page has."""
    if not 1 <= size <= MAX_PAGE:
        raise ContractError(contract_failure("page_size", f"page_size is {size}; it must be from 1 to {MAX_PAGE}"))
