"""The page Lanes: how far each lane is, who has it, and why it stopped."""

from typing import Final, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from core_tables.console.asking import ports_of
from core_tables.console.rendering import page
from core_tables.consumer.lane_status import LaneStatus, LedgerStatus, remarks
from core_tables.projection.postgres.lanes import KnownStop
from core_tables.schemas.reasons import StopCause

ShownState = Literal["stopped", "held up", "unowned", "behind", "caught up"]


class Cause(NamedTuple):
    """What a cause of a stop means, and what an operator does next."""

    title: str
    step: str


CAUSES: Final[dict[StopCause, Cause]] = {
    "schema": Cause(
        "A record has a schema that this release does not know",
        "Deploy workers of the release that knows the schema. The lane continues by itself.",
    ),
    "record": Cause(
        "The Kafka client cannot read a record",
        "Read what the message says about the record, remove the cause, then restart the worker.",
    ),
    "defect": Cause(
        "A defect of Core Tables, or a change that somebody made to the tables",
        "Keep the worker's log, which has the traceback. Run core-tables verify for this lane's tenants, then install a release "
        "that repairs the defect and restart the worker.",
    ),
    "records_lost": Cause(
        "Records are missing from the ledger topic",
        "Stop the workers, and restore the topic from a copy of the brokers' disks. Do not recreate it.",
    ),
    "audit_lost": Cause(
        "The audit topic lost records, or holds those of others",
        "Check CORE_TABLES_AUDIT_TOPIC, and restore the audit topic from a copy of the brokers' disks.",
    ),
    "topic": Cause("The topic is not as expected", "Compare the topic with core-tables init, then restart the worker."),
    "database": Cause(
        "The database is not as expected", "Run core-tables init, which names what differs, then restart the worker."
    ),
    "permission": Cause(
        "A permission is missing", "Grant the worker the right that the message names, then restart it."
    ),
    "machine": Cause("Something is missing on the worker's machine", "Read the message, then restart the worker."),
}


class ShownLane(NamedTuple):
    """A row of the page."""

    status: LaneStatus
    state: ShownState
    stop: KnownStop | None
    unaudited: int


def lanes(request: Request) -> Response:
    """How far the lanes are now; the page asks again every few seconds."""
    status = ports_of(request).status()
    rows = [_shown(lane, status) for lane in status.lanes]
    return page(
        request,
        "lanes.html",
        status=status,
        rows=rows,
        stops=[(stop, CAUSES[stop.cause]) for stop in status.stops.values()],
        remarks=remarks(status),
        waiting=sum(row.status.lag for row in rows),
        unaudited=sum(row.unaudited for row in rows),
        behind=max((row.status.lag_seconds for row in rows), default=0),
        owners=len({row.status.owner for row in rows if row.status.owner is not None}),
    )


def _shown(lane: LaneStatus, status: LedgerStatus) -> ShownLane:
    stop = status.stops.get(lane.lane)
    return ShownLane(lane, _state(lane, stop, status), stop, max(0, lane.applied - lane.audited))


def _state(lane: LaneStatus, stop: KnownStop | None, status: LedgerStatus) -> ShownState:
    if stop is not None:
        return "stopped"
    if lane.stable_end < lane.log_end:
        return "held up"
    if status.group is not None and status.group.settled and lane.owner is None:
        return "unowned"
    return "behind" if lane.lag else "caught up"
