"""Statements that travel to Postgres together (libpq, "Pipeline Mode").

psycopg's own pipeline gives each statement a send and a look for answers of its own; for small batches, which are those that
somebody waits for, that took a third of the time (ADR 7). Here they leave when libpq's buffer is full, and at the end.
"""

import re
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from core_tables.projection.postgres.arrays import BIGINT, OIDS, Array, columns, fields
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.statements import sql

BINARY: Final = 1
FEW: Final = 8  # rows that are sent one by one; more of them travel as columns
TEXT_OID: Final = 25
BIGINT_OID: Final = 20
_LOOK_EVERY_MS: Final = 500.0

Parameter = Array | str | int
# By connection, what it has prepared. psycopg prepares nothing beside (database.connect): after a rollback it would drop all.
_prepared: Final[WeakKeyDictionary[Connection, set[str]]] = WeakKeyDictionary()


@dataclass
class Answer:
    """What a statement answered, once its pipeline has ended: rows, how many it wrote, and its tag, like COMMIT."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 0
    tag: str = ""


class Pipeline:
    """The pipelines of a connection, one after the other: `with` one, `add` statements, and read the answers after it.

    Leaving it raises the psycopg.Error of the first statement that failed, unless the body raised; those after it were not run.
    The answers are waited for until `deadline` (monotonic seconds), or for the connection's `answer_timeout_s` if it is None;
    after that the connection is closed.
    """

    def __init__(self, connection: Connection) -> None:
        self.deadline: float | None = None
        self._connection = connection
        self._libpq = connection.pgconn
        self._rows = Transformer(connection)
        self._poll = select.poll()
        self._began = 0.0
        self._prepared = _prepared.setdefault(connection, set())
        self._sent: list[tuple[Answer, str]] = []  # each with the statement that it prepares, if it does

    def __enter__(self) -> Self:
        self._libpq.enter_pipeline_mode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = self._finish()
        if failed is not None and error is None:
            raise failed

    def add(self, statement: str, parameters: Sequence[Parameter] = ()) -> Answer:
        """Send the statement of sql/<statement>.sql, which the connection prepares when it first sees it."""
        values = [_encoded(value) for value in parameters]
        if statement not in self._prepared:
            self._prepare(statement, [_oid(value) for value in parameters])
        return self._send(statement, values, Answer())

    def add_rows(self, statement: str, rows: Sequence[Sequence[Any]]) -> Answer:
        """Send a statement that takes rows as columns. Return one answer for all of them.

        A few rows are sent one by one: for each column Postgres makes a store of 16 KiB, however little comes to lie in it, and
        to get and return that memory was a quarter of its work at 1 000 events/s.
        """
        if len(rows) > FEW:
            return self.add(statement, columns(statement, rows))
        answer, name = Answer(), f"one_row/{statement}"
        if name not in self._prepared:
            self._prepare(name)
        for row in rows:
            self._send(name, fields(statement, row), answer)
        return answer

    def command(self, text: bytes) -> Answer:
        """Send a command without parameters, like BEGIN."""
        self._libpq.send_query_params(text, None)
        self._sent.append((Answer(), ""))
        return self._sent[-1][0]

    def flush(self) -> None:
        """Send what libpq still holds of what was added, so that Postgres can begin; as much as the socket takes."""
        self._libpq.flush()

    def _prepare(self, name: str, types: Sequence[int] | None = None) -> None:
        self._libpq.send_prepare(name.encode(), _numbered(name), types)
        self._sent.append((Answer(), name))
        self._prepared.add(name)

    def _send(self, name: str, values: Sequence[bytes | None], answer: Answer) -> Answer:
        self._libpq.send_query_prepared(name.encode(), values, [BINARY] * len(values), BINARY)
        self._sent.append((answer, ""))
        return answer

    def _finish(self) -> psycopg.Error | None:
        """Read all answers; return the first error."""
        sent, self._sent = self._sent, []
        first: psycopg.Error | None = None
        self._began = time.monotonic()
        try:
            self._libpq.pipeline_sync()
            for answer, prepares in sent:
                error = self._read(self._next(), answer)
                if error is not None:
                    first = first or error
                    self._prepared.discard(prepares)
                self._next()  # the null that ends a command's results
            self._next()  # the synchronization, which no null follows
            self._libpq.exit_pipeline_mode()
        except BaseException as broken:  # an interrupt, too: nobody knows which answer would come next
            self._libpq.finish()
            if not isinstance(broken, psycopg.Error):
                raise
            return first or broken
        return first

    def _next(self) -> PGresult | None:
        libpq = self._libpq
        while libpq.is_busy():
            self._poll.register(libpq.socket, select.POLLIN | select.POLLOUT if libpq.flush() else select.POLLIN)
            self._poll.poll(self._patience_ms())
            libpq.consume_input()
        return libpq.get_result()

    def _patience_ms(self) -> float:
        """How long to wait for the socket now: not for all that is left, since the limit may be lowered meanwhile."""
        now = time.monotonic()
        limit = self._began + self._connection.answer_timeout_s if self.deadline is None else self.deadline
        if now >= limit:
            raise self._connection.give_up(now - self._began)
        return min(_LOOK_EVERY_MS, 1000 * (limit - now) + 1)

    def _read(self, result: PGresult | None, answer: Answer) -> psycopg.Error | None:
        if result is None:
            raise psycopg.OperationalError("the connection was lost")
        match result.status:
            case ExecStatus.TUPLES_OK:
                self._rows.set_pgresult(result)
                answer.rows += self._rows.load_rows(0, result.ntuples, tuple)
            case ExecStatus.COMMAND_OK:
                pass
            case ExecStatus.PIPELINE_ABORTED:
                return psycopg.errors.PipelineAborted("a statement before it failed")
            case _:
                return error_from_result(result)
        answer.count += result.command_tuples or 0
        answer.tag = (result.command_status or b"").decode()
        return None


def _oid(value: Parameter) -> int:
    if isinstance(value, str):
        return TEXT_OID
    return BIGINT_OID if isinstance(value, int) else OIDS[type(value)]


def _encoded(value: Parameter) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return BIGINT.pack(value) if isinstance(value, int) else value.data


def _numbered(statement: str) -> bytes:
    """The statement with libpq's placeholders, $1 and so on."""
    numbers = count(1)
    return re.sub("%b", lambda _: f"${next(numbers)}", sql(statement)).encode()
