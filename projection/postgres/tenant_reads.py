"""What all reads share: one tenant a statement, in one round trip, over connections that a deadline limits; and pages."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, Self, TypeVar

from core_tables.projection.postgres.pipeline import Parameter
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.schemas.reasons import TENANT_SCOPE_VIOLATION, ContractError, CoreTablesError, contract_failure
from core_tables.schemas.validation import TENANT_ID_RULE
from core_tables.schemas.vocabulary import MAX_I64, UNATTRIBUTED
from core_tables.schemas.wire import is_tenant_id

MAX_PAGE: Final = 1000


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
    """A list of what a read found, and in `next` the cursor to give as `after` for the next page; None if this is the last.

    A cursor is a tuple of numbers and texts. It stays valid for as long as the answers are asked for in the same way.
    """

    def __init__(self, items: Iterable[_T], next: Cursor | None) -> None:  # noqa: A002
        super().__init__(items)
        self.next = next

    def made(self, make: Callable[[_T], _U]) -> "Page[_U]":
        """The same page with something made of each item."""
        return Page(map(make, self), self.next)


class TenantReads:
    """Reads of one tenant each. The subclasses are the reads by subject; `Reads` is all of them."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool
        self._deadline: float | None = None

    def until(self, deadline: float) -> Self:
        """The same reads, each of which ends by `deadline` (monotonic seconds). They share the connections."""
        limited = copy.copy(self)
        limited._deadline = deadline
        return limited

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _tenant_rows(self, kind: type[_R], tenant_id: str, statement: str, **parameters: Parameter) -> list[_R]:
        """Run one statement that may see one tenant: setting and statement go in one round trip.

        The tenant is the statement's first parameter, the others follow in their order.
        """
        checked_parameters(tenant_id, **parameters)
        with self._pool.transaction(self._deadline) as pipeline:
            pipeline.add("set_tenant", tenant_id)
            answer = pipeline.fetch(kind, statement, tenant_id, *parameters.values())
        return rows_of_tenant(tenant_id, answer.rows)

    def _page(
        self,
        kind: type[_R],
        tenant_id: str,
        statement: str,
        order: Order,
        *,
        after: Cursor | None,
        page_size: int,
        **parameters: Parameter,
    ) -> Page[_R]:
        """A page of rows. The statement's last parameters are the cursor, and how many rows to read: one more than asked for."""
        check_page(page_size)
        start = checked_cursor(after, order)
        rows = self._tenant_rows(kind, tenant_id, statement, **parameters, **start, limit=page_size + 1)
        items = rows[:page_size]
        more = len(rows) > page_size
        return Page(items, tuple(getattr(items[-1], name) for name in order) if more else None)


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
