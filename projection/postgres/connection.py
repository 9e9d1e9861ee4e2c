"""The connection to Postgres: how it is set up, and how its errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_loads

from core_tables.schemas.reasons import (
    APPEND_ONLY_VIOLATION,
    CoreTablesError,
    LaneStoppedError,
    SetupError,
    UnavailableError,
)

Connection = psycopg.Connection[tuple[object, ...]]

APPEND_ONLY_STATE: Final = "CT001"
# Postgres appendix A, classes of errors that go away: connection, transaction rollback, insufficient resources,
# operator intervention, system error, and the time-outs.
_PASSING_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
_PASSING_STATES: Final = frozenset({"55P03", "25P03", "25P02", "25P04"})
# Undefined table, schema, column, function, database; and what this role may not do.
_SETUP_STATES: Final = frozenset({"42P01", "3F000", "42703", "42883", "3D000"})
_PERMISSION_STATES: Final = frozenset({"42501", "28000", "28P01"})
# Left alone, Postgres plans for each small batch anew, since a plan for two rows looks cheaper than one for any number of them;
# planning was a seventh of its work at 1 000 events/s.
PLANNED_ONCE: Final = " -c plan_cache_mode=force_generic_plan"
# For each key of a batch, one look into an index: right whatever the statistics say, which of a table that fills are stale.
# A plan made while the tables were empty reads them whole for every batch until they are analyzed.
PROBES: Final = PLANNED_ONCE + " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
# Compiling a plan that looks costly while statistics are missing takes longer than any of our statements.
_NO_JIT: Final = " -c jit=off"


def connect(
    dsn: str,
    *,
    name: str,
    statement_timeout_ms: int = 30_000,
    lock_timeout_ms: int = 30_000,
    transaction_timeout_ms: int = 0,
    plans: str = "",
) -> Connection:
    """Open a connection with bounded waits. Raises UnavailableError or SetupError.

    `transaction_timeout_ms` (0: none) ends the session of a process that stopped with a lane locked. The time-out of idle
    transactions does not: in the middle of a pipeline the server does not count its wait for the client as idle.
    `plans`: how statements are planned; PLANNED_ONCE where one plan fits all parameters, PROBES where they only look keys up.
    """
    options = (
        f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms} "
        f"-c idle_in_transaction_session_timeout={statement_timeout_ms} -c transaction_timeout={transaction_timeout_ms}"
    )
    options += _NO_JIT + plans
    try:
        theirs = conninfo_to_dict(dsn).get("options") or ""
    except psycopg.ProgrammingError:  # its text quotes the DSN, and with it perhaps a password
        raise SetupError(
            "the DSN of Postgres is not one: postgresql://user@host/database is expected", "database"
        ) from None
    with translated():
        connection = psycopg.connect(
            dsn,
            application_name=name,
            options=f"{theirs} {options}",
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
    connection.prepare_threshold = None
    set_json_loads(orjson.loads, connection)
    return connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of psycopg into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> CoreTablesError:
    """The error of ours that an error of psycopg stands for: something passing, the set-up, or a defect of ours."""
    state = error.sqlstate or ""
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    if state == APPEND_ONLY_STATE:
        return CoreTablesError(first, reason_code=APPEND_ONLY_VIOLATION)
    # What fails while a connection is opened carries no state, only the server's text.
    if state in _PERMISSION_STATES or (not state and ("authentication failed" in first or 'role "' in first)):
        return SetupError(
            f"Postgres does not permit this: {first}; ask an administrator for the role, then start this again",
            "permission",
        )
    if state in _SETUP_STATES or (not state and "does not exist" in first):
        return SetupError(f"Postgres is not set up for this: {first}; run `core-tables init`", "database")
    passing = state[:2] in _PASSING_CLASSES or state in _PASSING_STATES
    if passing or (not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return UnavailableError("postgres", f"Postgres does not answer as it should: {first}; see that it runs")
    return LaneStoppedError(
        f"Postgres refused what should be right ({state}): {first}; this is a defect and nothing was skipped: run "
        "`core-tables verify`, and report what it says with this line"
    )
