"""What an error of Postgres means for us, by its SQLSTATE (Postgres documentation, appendix A) and never by its text.

docs/RELIABILITY.md has the table; a test holds the two together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from core_tables.schemas.reasons import (
    APPEND_ONLY_VIOLATION,
    CoreTablesError,
    LaneStoppedError,
    SetupError,
    UnavailableError,
)

APPEND_ONLY_STATE: Final = "CT001"
# Classes and states of errors that go away by themselves, or when somebody has repaired the server.
PASSING_CLASSES: Final = {
    "08": "the connection is lost or refused",
    "40": "a deadlock or a serialization failure",
    "53": "too many connections, or no disk or memory left",
    "57": "the server shuts down, starts, or canceled the statement at its timeout",
    "58": "an error of the operating system",
}
PASSING_STATES: Final = {
    "25006": "the server is read-only: a standby being promoted, or a managed disk that is full",
    "25P02": "an earlier statement of the transaction failed",
    "25P03": "the timeout of an idle transaction",
    "25P04": "the timeout of a transaction",
    "26000": "a pooler gave the session to a server where the statement is not prepared",
    "42P05": "a pooler gave the session to a server where the statement is prepared already",
    "55006": "an object is in use",
    "55P03": "the timeout of a lock",
    "55000": "the server is in recovery, or an object is not in the state it will be in",
}
SETUP_STATES: Final = {
    "3D000": "no such database",
    "3F000": "no such schema",
    "42P01": "no such table",
    "42703": "no such column",
    "42704": "no such role, type or setting",
    "42883": "no such function",
}
# `init` creates whatever is missing, also in a database that was named by mistake.
_SETUP_ADVICE: Final = "check that the DSN names the right database; if it exists and is new, run `core-tables init`"
_SEE: Final = "see that it runs"
_UNPREPARED_STATES: Final = {"26000", "42P05"}
PERMISSION_STATES: Final = {
    "28000": "the role may not log in, or not from here",
    "28P01": "the password is wrong",
    "42501": "the role may not do this",
}


@contextmanager
def translated(advice: str = _SEE) -> Iterator[None]:
    """Turn errors of psycopg into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, advice) from error


def translate(error: psycopg.Error, advice: str = _SEE) -> CoreTablesError:
    """The error of ours that an error of psycopg stands for: something passing, the set-up, or a defect of ours.

    `advice` is the next step for what passes.
    """
    state = error.sqlstate or _guessed_state(error)
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    if state == APPEND_ONLY_STATE:
        return CoreTablesError(first, reason_code=APPEND_ONLY_VIOLATION)
    if state in PERMISSION_STATES:
        return SetupError(
            f"Postgres does not permit this: {first}; ask an administrator for the role, then start this again",
            "permission",
        )
    if state in SETUP_STATES:
        return SetupError(f"Postgres is not set up for this: {first}; {_SETUP_ADVICE}", "database")
    passing = state[:2] in PASSING_CLASSES or state in PASSING_STATES
    if state in _UNPREPARED_STATES:
        advice = "if a pooler in transaction mode is in between, set CORE_TABLES_READER_POOLED=true"
    if passing or (not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return UnavailableError("postgres", f"Postgres does not answer as it should: {first}; {advice}")
    return LaneStoppedError(
        f"Postgres refused what should be right ({state}): {first}; this is a defect and nothing was skipped: run "
        "`core-tables verify`, and report what it says with this line"
    )


def _guessed_state(error: psycopg.Error) -> str:
    """The SQLSTATE of an error that carries none. libpq gives none when a connection is refused, only the server's text.

    It decides which advice is given. A server that speaks another language gets that of a server that does not answer,
    with its own words.
    """
    if not isinstance(error, psycopg.OperationalError):
        return ""
    text = str(error)
    if "authentication failed" in text:
        return "28P01"
    if 'role "' in text:
        return "42704" if "does not exist" in text else "28000"
    return "3D000" if 'database "' in text and "does not exist" in text else ""
