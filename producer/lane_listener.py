"""Hears how far the lanes of a database are folded: a NOTIFY after each batch."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import psycopg

from core_tables.projection.postgres.connection import Connection, CurrentDsn, connect
from core_tables.projection.postgres.failures import translate
from core_tables.schemas.reasons import CoreTablesError, SetupError

HEAR_S: Final = 0.25
_MAX_PAUSE_S: Final = 5.0


class LaneListener:
    """A thread that listens to one database, on a connection that is reopened when it is lost.

    `note` is called with the lanes that were folded, and how far.
    """

    def __init__(self, dsn: CurrentDsn, note: Callable[[Mapping[int, int]], None]) -> None:
        self._dsn = dsn
        self._note = note
        self._inherited: list[Connection] = []  # the parent's: closing one would end its session
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def open(self) -> None:
        """Connect now. Raises UnavailableError or SetupError."""
        self._connection = _open_listener(self._dsn)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="core-tables listener", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Ask the thread to end."""
        self._closing.set()

    def close(self) -> None:
        """Wait until it has ended, and close the connection."""
        self.end()
        if self._thread is not None:
            self._thread.join(2)
        elif self._connection is not None:
            self._connection.close()

    def after_fork(self) -> None:
        """Start over in a child process, which has no listening thread."""
        if self._connection is not None:
            self._inherited.append(self._connection)
        self._connection, self._thread, self._closing = None, None, threading.Event()

    def _listen(self) -> None:
        pause = HEAR_S
        closing = self._closing
        while not closing.is_set():
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = _open_listener(self._dsn)
                for notification in self._connection.notifies(timeout=HEAR_S):
                    lane, _, applied = notification.payload.partition(":")
                    if lane.isdecimal() and applied.isdecimal():  # any program may send a notification
                        self._note({int(lane): int(applied)})
                pause = HEAR_S
            except (psycopg.Error, CoreTablesError):  # the waiting threads query Postgres themselves, and get the error
                if self._connection is not None:
                    self._connection.close()
                closing.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)
        if self._connection is not None:
            self._connection.close()


def _open_listener(dsn: CurrentDsn) -> Connection:
    listener = connect(dsn, name="core-tables listener")
    try:
        listener.autocommit = True
        listener.execute("listen core_tables")
    except psycopg.errors.ReadOnlySqlTransaction as error:
        listener.close()
        raise SetupError(
            "this Postgres is a standby or read-only, and nobody can listen there; let postgres_dsn name the primary",
            "database",
        ) from error
    except psycopg.Error as error:
        listener.close()
        raise translate(error) from error
    return listener
