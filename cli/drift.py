"""The drift auditor: compares samples of work orders, round after round, with the fold of their ledger rows."""

import sys
import time
from collections.abc import Sequence
from typing import Final

from core_tables.cli import output, wiring
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.verify.report import Report, differing_work_orders, whole_report
from core_tables.projection.verify.tables import verify_sample
from core_tables.schemas.reasons import UnavailableError
from core_tables.settings.environment import Settings

_SHOWN: Final = 20
_MIN_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 60.0


class Drift:
    """How many work orders were compared so far, and which of them differ; those are compared again in each round."""

    def __init__(self) -> None:
        self.compared = 0
        self.drifting: set[WorkOrderKey] = set()

    def round(self, connections: Sequence[Connection], size: int) -> Report:
        """Compare another sample, of each database a part, and what differed in the last round."""
        part = -(-size // len(connections))
        report = whole_report([verify_sample(connection, part, self.drifting) for connection in connections])
        self.compared += report.compared
        self.drifting = set(differing_work_orders(report.differences))
        return report


def compare_once(settings: Settings, size: int, as_json: bool) -> None:
    """Compare one sample and exit: EXIT_DIFFERENCES if a work order differs."""
    drift = Drift()
    _show_round(drift, drift.round([wiring.operator(database) for database in settings.databases()], size), as_json)
    sys.exit(output.EXIT_DIFFERENCES if drift.drifting else output.EXIT_OK)


def follow(settings: Settings, size: int, every: float, as_json: bool) -> None:
    """Compare round after round until Ctrl-C; if Postgres does not answer, wait for it."""
    drift, pause = Drift(), _MIN_PAUSE_S
    connections: list[Connection] = []
    while True:
        started = time.monotonic()
        try:
            connections = connections or [wiring.operator(database) for database in settings.databases()]
            _show_round(drift, drift.round(connections, size), as_json)
            pause = _MIN_PAUSE_S
        except UnavailableError as error:
            output.err.print(f"{error.message}; trying again in {pause:.0f} s", markup=False)
            for connection in connections:
                connection.close()
            connections = []
            time.sleep(pause)
            pause = min(_MAX_PAUSE_S, 2 * pause)
            continue
        time.sleep(max(0.0, every - (time.monotonic() - started)))


def _show_round(drift: Drift, report: Report, as_json: bool) -> None:
    counts = {"compared": drift.compared, "drift": len(drift.drifting)}
    if as_json:
        output.emit_json({**counts, "differences": [found._asdict() for found in report.differences]})
    else:
        output.out.print(f"{drift.compared} work orders compared so far, {len(drift.drifting)} drifting now")
        for found in report.differences[:_SHOWN]:
            where = "/".join(part for part in (found.tenant_id, found.work_order_id) if part)
            output.out.print(f"  {found.table} {where}: {found.what}", markup=False)
        if report.differences:
            output.out.print("next: core-tables rebuild")
    output.flush()
