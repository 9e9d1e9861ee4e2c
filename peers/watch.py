"""Runs a peer's process as bench/drain.py runs a worker, and checks what it left in the tables."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from bench import running
from bench.drain import DEADLINE_S
from bench.measure import Measured, StackCpu, peak_memory_mb
from core_tables.settings.environment import Settings
from peers.expected import Expected, expected

START_S: Final = 120.0
PATIENCE_S: Final = 10.0  # what a peer has not committed by then is not needed
ROOT: Final = Path(__file__).parents[1]

# By primary key, so that asking often costs the peer nothing.
_LAST_ROWS: Final = """
    select count(*)
    from unnest(%s::text[], %s::bigint[], %s::text[]) as last (tenant_id, event_id, work_order_id)
    inner join os_core.work_order_ledger as event
        on event.tenant_id = last.tenant_id and event.work_order_event_id = last.event_id
    inner join os_core.work_orders_current as row
        on row.tenant_id = last.tenant_id and row.work_order_id = last.work_order_id
        and row.last_event_id = last.event_id
"""


class Program(NamedTuple):
    """How to start a peer, and what its log says when it is assigned partitions, and when it gives up."""

    command: Sequence[str]
    environment: Mapping[str, str]
    assigned: bytes = b"assigned"
    failed: bytes = b"Traceback"


class WrongResultError(Exception):
    """A peer did not write what the fold says."""


def measured(settings: Settings, folder: Path, program: Program) -> Measured:
    """Run a peer until all rows are there, and check them. Raises RuntimeError or WrongResultError.

    The time runs from its first assignment until all rows are committed.
    """
    want, cpu = expected(settings), StackCpu(folder)
    process = subprocess.Popen(
        program.command, env=dict(program.environment), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with running.ended(process, PATIENCE_S):
        log = running.Log(process.stderr, lambda line: program.assigned in line, failure=program.failed)
        started, before = log.ready_at(START_S), cpu.read([process.pid])
        ended = _all_written(settings, process, log, want)
        used, peak = cpu.read([process.pid]).since(before), peak_memory_mb(process.pid)
    check(settings, want)
    return Measured.of(want.records, ended - started, used, peak_mb=peak)


def check(settings: Settings, want: Expected) -> None:
    """Compare the tables with the fold: how many ledger rows, and each work order's status and last event."""
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        found = connection.execute("select count(*) from os_core.work_order_ledger").fetchone()
        rows = connection.execute(
            "select tenant_id, work_order_id, work_order_status, last_event_id from os_core.work_orders_current"
        ).fetchall()
    if found != (want.ledger_rows,):
        raise WrongResultError(f"{found} ledger rows instead of {want.ledger_rows}")
    current = {(row[0], row[1]): (row[2], row[3]) for row in rows}
    if current != want.current:
        wrong = [key for key, value in want.current.items() if current.get(key) != value]
        raise WrongResultError(
            f"{len(current)} current rows instead of {len(want.current)}; {len(wrong)} differ: {wrong[:3]}"
        )


def _all_written(settings: Settings, process: "subprocess.Popen[bytes]", log: running.Log, want: Expected) -> float:
    """Wait until the last event of each partition is in both tables; when that was."""
    tenants, ids, orders = (list(column) for column in zip(*want.last.values(), strict=True))
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        connection.execute("set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off")

        def written() -> bool:
            if log.failed or process.poll() is not None:
                raise RuntimeError(f"the peer ended: {log.end()}")
            return connection.execute(_LAST_ROWS, (tenants, ids, orders)).fetchone() == (len(ids),)

        return running.until(written, DEADLINE_S, "a peer has written everything")
