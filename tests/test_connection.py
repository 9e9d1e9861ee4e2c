"""The connection to Postgres: what the DSN asks for is kept, and a wrong DSN is reported without showing it."""

import pytest
from psycopg.conninfo import make_conninfo

from core_tables.projection.postgres.connection import connect
from core_tables.schemas.reasons import SetupError

from .world import World


@pytest.mark.stack
def test_the_options_of_a_dsn_are_kept_unless_our_statements_rely_on_them(world: World) -> None:
    dsn = make_conninfo(world.settings.reader(), options="-c work_mem=1234kB -c search_path=os_core")
    connection = connect(dsn, name="test connection", statement_timeout_ms=1234)
    names = ("work_mem", "search_path", "statement_timeout", "jit")
    settings = [connection.execute(f"show {name}".encode()).fetchone() for name in names]
    connection.close()
    assert settings == [("1234kB",), ("pg_catalog",), ("1234ms",), ("off",)]


def test_what_is_no_dsn_is_told_without_showing_it() -> None:
    with pytest.raises(SetupError) as refusal:
        connect("host=here secret", name="test connection")
    assert "secret" not in refusal.value.message
