"""The connection to Postgres: how it is opened, and how long it waits for an answer."""

from collections.abc import Callable
from typing import Final, TypeVar

import orjson
import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads

from core_tables.projection.postgres.failures import translated
from core_tables.schemas.reasons import SetupError

CONNECT_TIMEOUT_S: Final = 5
# How much longer than the server's own limit of a statement we wait for it to say so.
_GRACE_S: Final = 5.0
# Left alone, Postgres plans for each small batch again, since a plan for two rows looks cheaper than one for any number of them;
# planning was a seventh of its work at 1 000 events/s.
_PLANNED_ONCE: Final = " -c plan_cache_mode=force_generic_plan"
# For each key of a batch, one look into an index: right whatever the statistics say, which of a table that fills are stale.
# A plan made while the tables were empty reads them whole for every batch until they are analyzed.
PROBES: Final = _PLANNED_ONCE + " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
# A read takes the beginning of one range of one index, in its order. A plan that reads a whole range and sorts it looks as good
# where statistics are missing, or are from a time when one large work order had nearly all rows.
IN_ORDER: Final = PROBES + " -c enable_bitmapscan=off -c enable_sort=off -c enable_incremental_sort=off"
# Compiling a plan that looks costly while statistics are missing takes longer than any of our statements.
_NO_JIT: Final = " -c jit=off"
# What our statements mean depends on these, and a database, a role, a DSN or the environment may set each of them.
_RELIED_ON: Final = (
    " -c standard_conforming_strings=on -c search_path=pg_catalog -c row_security=on -c datestyle=ISO"
    " -c default_transaction_isolation=read\\ committed"
)
RV = TypeVar("RV")
# Where to connect, or what gives it: a password may change, so it is asked each time.
CurrentDsn = str | Callable[[], str]


class Connection(psycopg.Connection[tuple[object, ...]]):
    """A connection that waits at most `answer_timeout_s` seconds for an answer, and is closed when none came.

    The server's timeouts do not help where the server itself is suspended.
    """

    answer_timeout_s: float = 35.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg has it, with a limit. Raises OperationalError when it is reached."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_timeout_s)
        except psycopg.errors._WaitTimeout as error:
            raise self.give_up(self.answer_timeout_s) from error

    def give_up(self, waited_s: float) -> psycopg.OperationalError:
        """Close the connection, since nobody knows what the next answer would belong to; return the error to raise."""
        self.pgconn.finish()
        return psycopg.OperationalError(f"no answer within {waited_s:.3g} s")


def connect(
    dsn: CurrentDsn,
    *,
    name: str,
    statement_timeout_ms: int = 30_000,
    lock_timeout_ms: int = 30_000,
    transaction_timeout_ms: int = 0,
    plans: str = "",
    pooled: bool = False,
) -> Connection:
    """Open a connection with bounded waits. Raises UnavailableError or SetupError.

    `transaction_timeout_ms` (0: none) ends the session of a process that stopped with a lane locked. The timeout of idle
    transactions does not: in the middle of a pipeline the server does not count its wait for the client as idle.
    `pooled`: the DSN leads to a pooler in transaction mode. It refuses or drops the settings of a session, so each transaction
    must set them (set_pooled_session.sql), and nothing may be prepared.
    `plans`: how statements are planned; PROBES where they only look keys up, IN_ORDER where they also read pages.
    """
    options = (
        f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms} "
        f"-c idle_in_transaction_session_timeout={statement_timeout_ms} -c transaction_timeout={transaction_timeout_ms}"
    )
    options += _NO_JIT + _RELIED_ON + plans
    address = _with_options(dsn if isinstance(dsn, str) else dsn(), "" if pooled else options)
    with translated("check the DSN, its TLS settings included, and that the server runs"):
        connection = Connection.connect(
            address,
            application_name=name,
            client_encoding="UTF8",
            connect_timeout=CONNECT_TIMEOUT_S,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
        )
    connection.answer_timeout_s = min(filter(None, (statement_timeout_ms, transaction_timeout_ms))) / 1000 + _GRACE_S
    connection.prepare_threshold = None
    set_json_loads(orjson.loads, connection)
    _check_session(connection)
    return connection


def _with_options(dsn: str, options: str) -> str:
    """The DSN with session settings behind those that it has. Raises SetupError."""
    try:
        theirs = str(conninfo_to_dict(dsn).get("options") or "")
        return make_conninfo(dsn, options=f"{theirs} {options}") if options else dsn
    except psycopg.ProgrammingError:  # its text quotes the DSN, and with it perhaps a password
        raise SetupError(
            "the DSN of Postgres is not one: postgresql://user@host/database is expected", "database"
        ) from None


def _check_session(connection: Connection) -> None:
    """Refuse a session in which text would not be what it says."""
    for setting, wanted, advice in (
        ("server_encoding", "UTF8", "create it with `create database … encoding 'UTF8' template template0`"),
        ("client_encoding", "UTF8", "see what between here and the server changes it"),
        ("standard_conforming_strings", "on", "see what between here and the server changes it"),
    ):
        found = connection.info.parameter_status(setting)
        if found != wanted:
            connection.close()
            raise SetupError(
                f"the database has {setting} {found}, and core tables needs {wanted}; {advice}", "database"
            )
