"""Who a session is, and what server it has reached."""

from typing import NamedTuple

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch


class LoginFacts(NamedTuple):
    """A row of check_login.sql: the role of a session, whether it is a member of another, and the server's version and time."""

    name: str
    is_member: bool
    version: str
    major: int
    time_us: int


def login_of(connection: Connection, role: str) -> LoginFacts:
    """The login of a connection, compared with a role of ours. Raises SetupError or UnavailableError."""
    with translated(), connection.transaction():
        (found,) = fetch(connection, LoginFacts, "check_login", role)
    return found
