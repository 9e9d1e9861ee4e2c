"""Which lanes of a ledger lie in which database, where one database is not enough."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from math import gcd
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core_tables.schemas.identity import MAX_LANES
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic

LANE_MAP: Final = "CORE_TABLES_POSTGRES_LANES"
_RANGES: Final = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
# What tells one database from another. Who logs in, and how, is in the DSN of each role.
_ITS_OWN: Final = {"host", "hostaddr", "port", "dbname"}


class LaneGroup(NamedTuple):
    """Lanes that lie in one database, and what the address of that database has of its own, such as `host=a dbname=b`."""

    lanes: frozenset[int]
    address: str

    @property
    def name(self) -> str:
        """The lanes as a person writes them: `lanes 0-5, 12`."""
        return f"lanes {lanes_text(self.lanes)}"

    def placed(self, dsn: str) -> str:
        """The DSN of a role, at this database."""
        own = conninfo_to_dict(self.address)
        theirs = conninfo_to_dict(dsn)
        if "host" in own:
            theirs.pop("hostaddr", None)
        return make_conninfo("", **{**theirs, **own})

    def placed_current(self, dsn: str | Callable[[], str]) -> Callable[[], str]:
        """The same of a DSN that may be given by a function, asked each time."""
        return lambda: self.placed(dsn if isinstance(dsn, str) else dsn())


def lane_groups(text: str) -> tuple[LaneGroup, ...]:
    """The groups of a map such as `0-5=host=a;6-11=host=b`. Raises ValueError; its message quotes no address."""
    groups: list[LaneGroup] = []
    for entry in filter(None, map(str.strip, text.split(";"))):
        ranges, equals, address = entry.partition("=")
        ranges = re.sub(r"\s", "", ranges)
        if not equals or not _RANGES.fullmatch(ranges):
            raise ValueError("lanes=address;lanes=address was expected, such as 0-5=host=a;6-11=host=b")
        lanes = [lane for each in ranges.split(",") for lane in _range(each)]
        known = {lane for group in groups for lane in group.lanes}
        for lane in lanes:
            if lane in known or lane >= MAX_LANES:
                raise ValueError(f"lane {lane} is given twice" if lane in known else f"there is no lane {lane}")
            known.add(lane)
        groups.append(LaneGroup(frozenset(lanes), _address(address)))
    if not groups:
        raise ValueError("it names no lane; leave it unset if one database has all of them")
    if len({tuple(sorted(conninfo_to_dict(group.address).items())) for group in groups}) < len(groups):
        raise ValueError("two entries name the same database; make them one: 0-2,6-8=host=a")
    return tuple(groups)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    lanes = range(int(first), int(last or first) + 1)
    if not lanes:
        raise ValueError(f"{text} names no lane; the smaller number comes first")
    return lanes


def _address(text: str) -> str:
    try:
        parts = conninfo_to_dict(text.strip())
    except psycopg.Error:  # its message may quote a password
        parts = {}
    if not parts or not parts.keys() <= _ITS_OWN:
        raise ValueError(
            "each address has host, port or dbname and nothing else; user, password and TLS are those of the role's DSN"
        )
    return make_conninfo("", **parts)


def lanes_text(lanes: Iterable[int]) -> str:
    """Lanes as ranges: `0-5, 12`."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(sorted(lanes)))


def _runs(lanes: Sequence[int]) -> Iterator[tuple[int, int]]:
    breaks = [at for at, (before, lane) in enumerate(pairwise(lanes), start=1) if lane != before + 1]
    for first, end in pairwise([0, *breaks, len(lanes)]):
        if end > first:
            yield lanes[first], lanes[end - 1]


def check_groups(groups: Sequence[LaneGroup], topics: Sequence[LedgerTopic]) -> None:
    """Check that each lane of the topics has a database, and that all lanes of a tenant have the same. Raises SetupError.

    What a lane of a later topic decides depends on the records of its tenants in the earlier ones.
    """
    home = {lane: at for at, group in enumerate(groups) for lane in group.lanes}
    for topic in topics:
        lanes = range(topic.first_lane, topic.first_lane + topic.partitions)
        for group in groups:
            if group.lanes.isdisjoint(lanes):
                raise SetupError(
                    f"{LANE_MAP} names a database that has no lane of {topic.topic}; leave it out", "database"
                )
        if lacking := [lane for lane in lanes if lane not in home]:
            raise SetupError(
                f"{LANE_MAP} gives no database to the lanes {lanes_text(lacking)} of {topic.topic}; give one to each lane",
                "database",
            )
    for earlier, topic in combinations(topics, 2):
        shared = gcd(earlier.partitions, topic.partitions)
        homes: dict[int, int] = {}
        for each in (earlier, topic):
            for partition in range(each.partitions):
                at = home[each.first_lane + partition]
                if homes.setdefault(partition % shared, at) != at:
                    raise SetupError(
                        f"{LANE_MAP} gives lane {each.first_lane + partition} to another database than the lanes that hold the "
                        f"earlier records of its tenants: of {earlier.topic} and {topic.topic}, partitions with the same remainder "
                        f"of division by {shared} belong into one database",
                        "database",
                    )
