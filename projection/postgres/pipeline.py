"""Statements that travel to Postgres together (libpq, "Pipeline Mode").

psycopg's own pipeline gives each statement a send and a look for answers of its own; for small batches, which are those that
somebody waits for, that took a third of the time (ADR 7). Here they leave when libpq's buffer is full, and at the end.
"""

import re
import select
import time
from collections.abc import Sequence
from itertools import count
from struct import Struct as Packed
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import psycopg
from msgspec import Struct
from msgspec.json import encode
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.statements import sql

_R = TypeVar("_R")

BINARY: Final = 1
_TEXT_OID: Final = 25
_BIGINT_OID: Final = 20
_JSONB_OID: Final = 3802
_BIGINT: Final = Packed("!q")
_JSONB_VERSION: Final = b"\x01"  # of its binary form
_LOOK_EVERY_MS: Final = 500.0

# A list of rows is one parameter, which the statement reads with jsonb_to_recordset.
Parameter = str | int | Sequence[Struct]


class Answer(Generic[_R]):
    """What a statement answered, once its pipeline has ended: rows, how many it read or wrote, and its tag, like COMMIT.

    `kind` is what its rows are; without it they are not read. No dataclass: mypyc compiles no generic one.
    """

    def __init__(self, kind: type[_R] | None = None) -> None:
        self.kind = kind
        self.rows: list[_R] = []
        self.count = 0
        self.tag = ""


class Pipeline:
    """The pipelines of a connection, one after the other: `with` one, add statements, and read the answers after it.

    Leaving it raises the psycopg.Error of the first statement that failed, unless the body raised; those after it were not run.
    The answers are waited for until `deadline` (monotonic seconds), or for the connection's `answer_timeout_s` if it is None;
    after that the connection is closed.

    If it `prepares`, it prepares statements under the names of their files, so a connection has one pipeline, and psycopg
    prepares nothing on it (connection.connect): after a rollback it would drop them all.
    """

    def __init__(self, connection: Connection, *, prepares: bool = True) -> None:
        self.deadline: float | None = None
        self._prepares = prepares
        self._connection = connection
        self._libpq = connection.pgconn
        self._rows = Transformer(connection)
        self._poll = select.poll()
        self._began = 0.0
        self._prepared: set[str] = set()
        self._sent: list[tuple[Answer[Any], str]] = []  # each with the statement that it prepares, if it does

    def __enter__(self) -> Self:
        self._libpq.enter_pipeline_mode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = self._finish()
        if failed is not None and error is None:
            raise failed

    def add(self, statement: str, *parameters: Parameter) -> Answer[None]:
        """Send the statement of sql/<statement>.sql, which is prepared the first time; the rows it returns are not read."""
        return self._add(Answer(), statement, parameters)

    def fetch(self, kind: type[_R], statement: str, *parameters: Parameter) -> Answer[_R]:
        """The same, and make each row it returns with the names of its columns."""
        return self._add(Answer(kind), statement, parameters)

    def _add(self, answer: Answer[_R], statement: str, parameters: Sequence[Parameter]) -> Answer[_R]:
        values = [_encoded(value) for value in parameters]
        if not self._prepares:
            types = [_oid(value) for value in parameters]
            self._libpq.send_query_params(_numbered(statement), values, types, [BINARY] * len(values), BINARY)
            self._sent.append((answer, ""))
            return answer
        if statement not in self._prepared:
            self._libpq.send_prepare(statement.encode(), _numbered(statement), [_oid(value) for value in parameters])
            self._sent.append((Answer(), statement))
            self._prepared.add(statement)
        self._libpq.send_query_prepared(statement.encode(), values, [BINARY] * len(values), BINARY)
        self._sent.append((answer, ""))
        return answer

    def command(self, text: bytes) -> Answer[None]:
        """Send a command without parameters, like BEGIN."""
        answer: Answer[None] = Answer()
        self._libpq.send_query_params(text, None)
        self._sent.append((answer, ""))
        return answer

    def flush(self) -> None:
        """Send what libpq still holds of what was added, so that Postgres can begin; as much as the socket takes."""
        self._libpq.flush()

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

    def _read(self, result: PGresult | None, answer: Answer[Any]) -> psycopg.Error | None:
        if result is None:
            raise psycopg.OperationalError("the connection was lost")
        match result.status:
            case ExecStatus.TUPLES_OK:
                if answer.kind is not None and result.ntuples:
                    answer.rows = self._load(result, answer.kind)
            case ExecStatus.COMMAND_OK:
                pass
            case ExecStatus.PIPELINE_ABORTED:
                return psycopg.errors.PipelineAborted("a statement before it failed")
            case _:
                return error_from_result(result)
        answer.count += result.command_tuples or 0
        answer.tag = (result.command_status or b"").decode()
        return None

    def _load(self, result: PGresult, kind: type[_R]) -> list[_R]:
        names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        self._rows.set_pgresult(result)
        rows = self._rows.load_rows(0, result.ntuples, tuple)
        try:
            return [kind(**dict(zip(names, row, strict=True))) for row in rows]
        except TypeError as error:
            raise psycopg.DataError(
                f"the columns {', '.join(names)} are not those of {kind.__name__}: {error}"
            ) from error


def _oid(value: Parameter) -> int:
    if isinstance(value, str):
        return _TEXT_OID
    return _BIGINT_OID if isinstance(value, int) else _JSONB_OID


def _encoded(value: Parameter) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return _BIGINT.pack(value)
    if isinstance(value, list | tuple):
        return _JSONB_VERSION + encode(value)
    raise TypeError(f"a parameter is text, a 64-bit number or a list of rows, not {value!r}")


def _numbered(statement: str) -> bytes:
    """The statement with libpq's placeholders, $1 and so on."""
    numbers = count(1)
    return re.sub("%b", lambda _: f"${next(numbers)}", sql(statement)).encode()
