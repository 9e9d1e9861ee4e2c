"""What a request asks for: its parameters, each checked where it is read."""

from datetime import UTC, datetime

from starlette.requests import Request

from core_tables.console.ports import Ports
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import MAX_I64

_EPOCH_S = datetime(1970, 1, 1, tzinfo=UTC)


def ports_of(request: Request) -> Ports:
    """What this console reads with."""
    ports: Ports = request.app.state.ports
    return ports


def text(request: Request, name: str) -> str:
    """A text; "" if it is not given. White space around it is not part of it."""
    return request.query_params.get(name, "").strip()


def event_id(request: Request, name: str) -> int | None:
    """An event id, or None if it is not given. Raises ContractError."""
    given = text(request, name)
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 19 and 0 < int(given) <= MAX_I64):
        raise ContractError(contract_failure(name, f"{name} is not an event id, which is a number above 0"))
    return int(given)


def moment(request: Request, name: str) -> int | None:
    """A time in UTC, as a browser's field has it, in nanoseconds; None if it is not given. Raises ContractError."""
    given = text(request, name)
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise ContractError(contract_failure(name, f"{name} is not a time such as 2026-01-15T18:00")) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    seconds = int((found - _EPOCH_S).total_seconds())
    if not 0 < seconds < MAX_I64 // 1_000_000_000:
        raise ContractError(contract_failure(name, f"{name} is not a time between 1970 and 2262"))
    return seconds * 1_000_000_000


def wants_values(request: Request) -> bool:
    """Whether values are asked for, which are hidden otherwise."""
    return text(request, "values") == "shown"


def note_values(request: Request, tenant_id: str, work_order_id: str | None, event_id: int | None) -> None:
    """Log that a user is about to see values. Reads are not audited (ADR 6), so this line is what remains of it."""
    page, user = request.url.path.strip("/"), request.state.user
    log = ports_of(request).log
    log.info(
        "values_shown",
        user=user,
        page=page,
        tenant_id=tenant_id,
        work_order_id=work_order_id,
        event_id=event_id,
        diagnostic=True,
    )
