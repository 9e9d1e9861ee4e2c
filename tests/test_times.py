"""Times as people write them, and as tables show them."""

import time

import pytest

from core_tables.cli.times import FORMS, nanoseconds_of, rounded_time, shown_time

from .builders import START

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
MIDNIGHT = 1_768_435_200_000_000_000  # 2026-01-15


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-01-15", MIDNIGHT),
        ("2026-01-15T08:00Z", MIDNIGHT + 8 * HOUR_NS),
        ("2026-01-15 08:00:00z", MIDNIGHT + 8 * HOUR_NS),
        ("2026-01-15T08:00:00+01:00", MIDNIGHT + 7 * HOUR_NS),
        ("2026-01-15T08:00:00 -0230", MIDNIGHT + 10 * HOUR_NS + HOUR_NS // 2),
        ("2026-01-15T08:00:00.123456789Z", MIDNIGHT + 8 * HOUR_NS + 123_456_789),
        ("2026-01-15T08:00:00.5Z", MIDNIGHT + 8 * HOUR_NS + 500_000_000),
        ("1969-12-31", -DAY_NS),
        (str(START), START),
    ],
)
def test_a_date_or_a_time_with_its_zone_is_exact(text: str, nanoseconds: int) -> None:
    assert nanoseconds_of(text) == nanoseconds


@pytest.mark.parametrize(("text", "ago"), [("2h", 2 * HOUR_NS), ("1d12H", 36 * HOUR_NS), ("+90m", -3 * HOUR_NS // 2)])
def test_a_span_counts_from_now(text: str, ago: int) -> None:
    before, found, after = time.time_ns(), nanoseconds_of(text), time.time_ns()
    assert before - ago <= found <= after - ago


def test_now_is_now() -> None:
    before, found, after = time.time_ns(), nanoseconds_of("now"), time.time_ns()
    assert before <= found <= after


@pytest.mark.parametrize("text", ["2026-01-15T08:00:00", "2026-01-15 08:00"])
def test_a_time_without_a_zone_is_asked_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="in which zone") as error:
        nanoseconds_of(text)
    assert f"{text}Z" in str(error.value)


@pytest.mark.parametrize("text", ["yesterday", "", "2 h", "-2h", "15.01.2026", "2026-01", "2026-01-15T08Z", "1e9"])
def test_anything_else_is_answered_with_what_can_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="a time was expected") as error:
        nanoseconds_of(text)
    assert FORMS in str(error.value)


@pytest.mark.parametrize("text", ["2026-02-30", "2026-01-15T25:00Z"])
def test_a_day_or_an_hour_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"day|hour"):
        nanoseconds_of(text)


@pytest.mark.parametrize("nanoseconds", [0, 1, START, START + 120_000_000, START + 123_456_789, 2**63 - 1])
def test_a_time_that_is_shown_can_be_typed_again(nanoseconds: int) -> None:
    assert nanoseconds_of(shown_time(nanoseconds)) == nanoseconds


def test_a_table_has_whole_milliseconds() -> None:
    assert rounded_time(MIDNIGHT + 123_456_789) == "2026-01-15T00:00:00.123Z"
    assert rounded_time(MIDNIGHT + 120_000_000) == "2026-01-15T00:00:00.120Z", "times below each other line up"
    assert rounded_time(MIDNIGHT) == shown_time(MIDNIGHT) == "2026-01-15T00:00:00Z"
