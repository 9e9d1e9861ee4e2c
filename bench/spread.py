"""The same load into one database, and into two, each on a Postgres server of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from psycopg.conninfo import conninfo_to_dict

from bench import drain, place
from bench.measure import Measured, cpu_of
from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses
from core_tables.settings.environment import Settings


class Server(NamedTuple):
    """A second Postgres server, and the map that gives it half of the lanes."""

    pid: int
    lanes: str


class Spread(NamedTuple):
    """A drain into this number of databases; the CPU of both servers is per event of the whole load, and includes setting up."""

    databases: int
    drain: Measured
    first_us: float
    second_us: float

    def __str__(self) -> str:
        rate = f"{self.drain.events_per_s:,.0f} events/s"
        return f"{self.databases} databases: {rate}, Postgres {self.first_us:.1f} and {self.second_us:.1f} µs"


@contextmanager
def second_server(stack: StackAddresses, folder: Path) -> Iterator[Server]:
    """A server of its own, with the stack's password; its data is removed at the end."""
    own, first = folder / "second", conninfo_to_dict(stack.postgres_dsn)
    own.mkdir(parents=True, exist_ok=True)
    (own / "password").write_text(str(first["password"]), "ascii")
    try:
        local_stack.start_part(own, "postgres")
        (part,) = (part for part in local_stack.status(own) if part.name == "postgres")
        _, _, port = (part.address or "").rpartition(":")
        half = place.PARTITIONS // 2
        lanes = f"0-{half - 1}=host={first['host']} port={first['port']};"
        yield Server(part.pid or 0, f"{lanes}{half}-{place.PARTITIONS - 1}=host=127.0.0.1 port={port}")
    finally:
        local_stack.down(own, lambda _: None, wipe=True)


def measure(settings: Settings, folder: Path, second: Server) -> Iterator[Spread]:
    """One round: one database, then two; the ledger topic holds the load."""
    (first,) = (part.pid or 0 for part in local_stack.status(folder) if part.name == "postgres")
    for databases, lanes in ((1, None), (2, second.lanes)):
        with place.tables(settings.model_copy(update={"postgres_lanes": lanes})) as made:
            before = cpu_of(first), cpu_of(second.pid)
            drained = drain.drain(made, folder)
            used = cpu_of(first) - before[0], cpu_of(second.pid) - before[1]
        yield Spread(databases, drained, *(1e6 * seconds / drained.events for seconds in used))
