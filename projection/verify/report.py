"""What a comparison covers, and what it reports."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from core_tables.projection.fold.values import WorkOrderKey

# A rebuild does not write these tables, since they are what it folds.
LEDGER_TABLES: Final = frozenset({"work_order_ledger", "work_order_outcomes"})


class Scope(NamedTuple):
    """What is compared: everything, one tenant, or one work order of a tenant."""

    tenant_id: str | None = None
    work_order_id: str | None = None


class Difference(NamedTuple):
    """A place where the tables or the cache differ from the ledger. A difference of a whole lane has no ids."""

    tenant_id: str | None
    work_order_id: str | None
    table: str
    what: str


class Report(NamedTuple):
    """The result of a comparison.

    `compared`, `equal` and `repaired` count work orders, or records if the topic was compared. `events` counts the events that
    were folded. `fold_versions` are the versions that the lanes had before. If one of them is not FOLD_VERSION, the
    differences include what a rebuild with this release changes.

    `incomplete` says what could not be compared, or by a rebuild dropped, and why: it is not known whether that is right.
    `lanes_ahead` are lanes that workers folded further during the comparison; their cached lists are true at another offset
    than the tables that were read.
    """

    compared: int
    equal: int
    repaired: int
    events: int
    differences: list[Difference]
    fold_versions: tuple[int, ...] = ()
    incomplete: tuple[str, ...] = ()
    lanes_ahead: tuple[int, ...] = ()


def whole_report(reports: Sequence[Report]) -> Report:
    """What comparisons of several databases say together."""
    return Report(
        compared=sum(report.compared for report in reports),
        equal=sum(report.equal for report in reports),
        repaired=sum(report.repaired for report in reports),
        events=sum(report.events for report in reports),
        differences=[difference for report in reports for difference in report.differences],
        fold_versions=tuple(sorted({version for report in reports for version in report.fold_versions})),
        incomplete=tuple(what for report in reports for what in report.incomplete),
        lanes_ahead=tuple(lane for report in reports for lane in report.lanes_ahead),
    )


Progress = Callable[[int], None]  # called with the number of work orders, or records, compared so far


def differing_work_orders(differences: Iterable[Difference]) -> list[WorkOrderKey]:
    """The work orders that the differences name, in key order, each once."""
    return sorted(
        {
            (found.tenant_id, found.work_order_id)
            for found in differences
            if found.tenant_id is not None and found.work_order_id is not None
        }
    )
