"""The map of lanes to databases: what is read of it, and which maps are refused."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from core_tables.producer import LedgerSettings
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings
from core_tables.settings.lane_map import check_groups, lane_groups, lanes_text

BASE = "postgresql://boss:secret@base:5432/ledger?sslmode=require"


def topic(first_lane: int, partitions: int) -> LedgerTopic:
    """A topic by its lanes."""
    return LedgerTopic(first_lane, f"topic-{first_lane}", "id", "cluster", partitions, "audit", "audit-id")


def test_each_database_has_the_address_of_its_entry_and_the_login_of_the_role() -> None:
    settings = Settings(postgres_dsn=BASE, postgres_lanes=" 0-2, 6 = host=a ; 3-5,7 = host=b port=6000 dbname=other ")
    first, second = settings.databases()
    assert (first.lanes, second.lanes) == (frozenset({0, 1, 2, 6}), frozenset({3, 4, 5, 7}))
    dsn = conninfo_to_dict(second.worker())
    assert (dsn["user"], dsn["password"], dsn["sslmode"]) == ("core_tables_worker", "secret", "require")
    assert (dsn["host"], dsn["port"], dsn["dbname"]) == ("b", "6000", "other")
    assert conninfo_to_dict(first.admin())["host"] == "a"
    assert conninfo_to_dict(first.admin())["dbname"] == "ledger"
    assert second.place == ", lanes 3-5, 7"


def test_without_a_map_there_is_one_database_with_all_lanes() -> None:
    settings = Settings(postgres_dsn=BASE)
    assert settings.databases() == (settings,)
    assert settings.lanes is None
    assert settings.admin() == BASE


def test_with_a_map_no_address_stands_for_all_databases() -> None:
    settings = Settings(postgres_dsn=BASE, postgres_lanes="0-11=host=a")
    for address in (settings.admin, settings.worker, settings.reader, settings.operator, settings.scheduler):
        with pytest.raises(SetupError, match="all databases"):
            address()


def test_a_program_of_its_own_gives_the_ledger_the_same_text() -> None:
    settings = LedgerSettings("kafka:9092", BASE, postgres_lanes="0-5=host=a;6-11=host=b")
    (lanes, dsn), _ = settings.readers()
    assert lanes == {0, 1, 2, 3, 4, 5}
    assert callable(dsn)
    assert conninfo_to_dict(dsn())["host"] == "a"
    assert settings.schedulers() == []
    with pytest.raises(SetupError, match="given twice"):
        LedgerSettings("kafka:9092", BASE, postgres_lanes="0-5=host=a;5-11=host=b").readers()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names no lane"),
        ("host=a", "lanes=address;lanes=address was expected"),
        ("0-5=host=a;5-11=host=b", "lane 5 is given twice"),
        ("0-2048=host=a", "there is no lane 2048"),
        ("5-0=host=a", "5-0 names no lane"),
        ("0-5=host=a;6-11=host=a", "two entries name the same database"),
        ("0-5=host=a password=secret", "each address has host, port or dbname"),
        ("0-5=", "each address has host, port or dbname"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused_and_no_password_quoted(text: str, why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(postgres_lanes=text)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_pooler_that_knows_one_address_does_not_go_with_a_map() -> None:
    with pytest.raises(ValidationError, match="CORE_TABLES_READER_POOLED are both set"):
        Settings(postgres_lanes="0-11=host=a", reader_pooled=True)


def test_every_lane_has_a_database_and_every_database_a_lane() -> None:
    check_groups(lane_groups("0-5=host=a;6-11=host=b"), [topic(0, 12)])
    with pytest.raises(SetupError, match="no database to the lanes 10-11"):
        check_groups(lane_groups("0-5=host=a;6-9=host=b"), [topic(0, 12)])
    with pytest.raises(SetupError, match="has no lane of topic-0"):
        check_groups(lane_groups("0-11=host=a;12-23=host=b"), [topic(0, 12)])


def test_all_lanes_of_a_tenant_are_in_one_database() -> None:
    """A tenant of partition 3 of 12 is in partition 3 or 15 of 24, and in 3, or 11, or another odd one, of 8."""
    topics = [topic(0, 12), topic(12, 24)]
    check_groups(lane_groups("0-5,12-17,24-29=host=a;6-11,18-23,30-35=host=b"), topics)
    with pytest.raises(SetupError, match="gives lane 18 to another database than"):
        check_groups(lane_groups("0-5,12-23=host=a;6-11,24-35=host=b"), topics)
    with pytest.raises(SetupError, match="same remainder of division by 4"):
        check_groups(lane_groups("0-5,12-15=host=a;6-11,16-19=host=b"), [topic(0, 12), topic(12, 8)])
    check_groups(lane_groups("0,2,4,6,8,10,12,14=host=a;1,3,5,7,9,11,13,15=host=b"), [topic(0, 12), topic(12, 4)])


def test_lanes_are_shown_as_ranges() -> None:
    assert lanes_text([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert lanes_text([]) == ""
