"""The session of Postgres: its settings are ours whatever is set around it, and its errors are classified by SQLSTATE."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.failures import (
    PASSING_CLASSES,
    PASSING_STATES,
    PERMISSION_STATES,
    SETUP_STATES,
    translate,
)
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, SetupError, UnavailableError

from .builders import make
from .world import World

RELIABILITY = Path(__file__).parent.parent / "docs" / "RELIABILITY.md"
HOSTILE = "-c standard_conforming_strings=off -c search_path=public -c default_transaction_isolation=serializable"


def failed(state: str) -> CoreTablesError:
    """The error of ours for an SQLSTATE."""
    error = psycopg.OperationalError("planted")
    error.sqlstate = state
    return translate(error)


def test_the_table_of_states_in_the_reliability_page_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w ]+)` \| (.*?) \| (passes|setup|permission) \|$", RELIABILITY.read_text("utf-8"), re.M)
    code = {f"class {name}": (what, "passes") for name, what in PASSING_CLASSES.items()}
    code |= {state: (what, "passes") for state, what in PASSING_STATES.items()}
    code |= {state: (what, "setup") for state, what in SETUP_STATES.items()}
    code |= {state: (what, "permission") for state, what in PERMISSION_STATES.items()}
    assert {state: (what, meaning) for state, what, meaning in rows} == code


@pytest.mark.parametrize(
    "state", [*(f"{name}000" for name in PASSING_CLASSES), *PASSING_STATES, "57P01", "53300", "40P01"]
)
def test_what_passes_can_be_tried_again(state: str) -> None:
    assert isinstance(failed(state), UnavailableError)


@pytest.mark.parametrize("state", ["23505", "22P02", "42601", "XX000", "0A000"])
def test_what_no_table_lists_is_a_defect(state: str) -> None:
    assert isinstance(failed(state), LaneStoppedError)


def test_a_read_only_server_is_waited_for() -> None:
    """As while a standby is promoted, or after a managed service found its disk full."""
    assert isinstance(translate(psycopg.errors.ReadOnlySqlTransaction("planted")), UnavailableError)


@pytest.mark.stack
def test_text_is_right_whatever_encoding_the_environment_the_dsn_and_the_role_ask_for(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.admin.execute("alter role core_tables_worker set client_encoding = 'LATIN1'")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    hostile = make_conninfo(fresh.settings.admin(), options=HOSTILE)
    fresh.settings = fresh.settings.model_copy(update={"postgres_dsn": hostile})
    try:
        payload = events.WorkOrderCreated("ada", fields={"city": "Zürich"})
        event = make("WORK_ORDER_CREATED", work_order_id="wo-é-2", payload=payload)
        with fresh.working():
            assert fresh.outcome(event) == Accepted()
        (entry,) = fresh.reads.ledger("acme", "wo-é-2")
        assert entry.event == event
        stored = fresh.admin.execute("select work_order_id from os_core.work_orders_current").fetchall()
        assert stored == [("wo-é-2",)]
    finally:
        fresh.admin.execute("alter role core_tables_worker reset client_encoding")


@pytest.mark.stack
def test_the_settings_that_statements_rely_on_are_ours(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", HOSTILE)
    with connect(make_conninfo(fresh.settings.worker(), client_encoding="LATIN1"), name="test") as connection:
        for setting, value in (
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("search_path", "pg_catalog"),
            ("default_transaction_isolation", "read committed"),
            ("row_security", "on"),
        ):
            found = connection.execute("select current_setting(%s)", (setting,)).fetchone()
            assert found == (value,), setting


@pytest.mark.stack
def test_a_database_that_is_not_utf_8_is_refused(fresh: World) -> None:
    name = f"{fresh.name}latin"
    fresh.admin.execute(
        f"create database {name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0".encode()
    )
    with pytest.raises(SetupError, match=r"server_encoding LATIN1.*UTF8"):
        connect(make_conninfo(fresh.settings.admin(), dbname=name), name="test")


@pytest.mark.stack
@pytest.mark.parametrize(
    "wrong",
    [
        {"sslmode": "require"},
        {"sslmode": "verify-full", "sslrootcert": "/no/such/file"},
        {"host": "no-such-host.invalid"},
    ],
)
def test_a_connection_that_cannot_be_made_is_quoted_with_advice_about_the_dsn(
    world: World, wrong: dict[str, str]
) -> None:
    with pytest.raises(UnavailableError, match="check the DSN, its TLS settings included") as refused:
        connect(make_conninfo(world.settings.reader(), **wrong), name="test")
    assert re.search("SSL|certificate|resolve", refused.value.message)
    assert "init" not in refused.value.message


@pytest.mark.parametrize("state", ["3D000", "42P01"])
def test_nobody_is_sent_to_init_before_the_dsn_was_looked_at(state: str) -> None:
    assert (
        "check that the DSN names the right database; if it exists and is new, run `core-tables init`"
        in failed(state).message
    )


def test_a_role_that_init_has_still_to_make_is_waited_for_by_a_worker_that_starts() -> None:
    refused = psycopg.OperationalError('connection failed: FATAL:  role "core_tables_worker" does not exist')
    error = translate(refused)
    assert isinstance(error, SetupError)
    assert error.subject == "database"
