"""Lines of JSON: each is an event, or is refused with what is wrong; nothing is dropped without a word."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from core_tables.cli.append import read_lines
from core_tables.schemas.json_form import event_from_line, event_to_json
from core_tables.schemas.reasons import ContractError

from .builders import make

EVENT = make("WORK_ORDER_CREATED")
TEXT = json.dumps(event_to_json(EVENT))


def refused(line: str | bytes) -> ContractError:
    with pytest.raises(ContractError) as caught:
        event_from_line(line if isinstance(line, bytes) else line.encode())
    return caught.value


def test_a_line_is_the_event_that_was_written_to_it() -> None:
    assert event_from_line(TEXT.encode()) == EVENT
    assert event_from_line(b" " + TEXT.encode() + b"\r\n") == EVENT


@pytest.mark.parametrize("number", ["1", str(2**63), str(2**64), str(2**128 - 1)])
def test_a_number_is_read_exactly_however_large_it_is(number: str) -> None:
    line = json.dumps({**event_to_json(EVENT), "correlation_id": 0}).replace(
        '"correlation_id": 0', f'"correlation_id": {number}'
    )
    assert event_from_line(line.encode()).correlation_id == int(number)


@pytest.mark.parametrize(
    ("part", "doubled", "field"),
    [
        ('"tenant_id": ', '"tenant_id": "other", "tenant_id": ', "tenant_id"),
        ('"tenant_id": ', '"tenant\\u005fid": "acme", "tenant_id": ', "tenant_id"),
        ('"requester_user_id": ', '"requester_user_id": "eve", "requester_user_id": ', "requester_user_id"),
        ('"city": ', '"city": "Rome", "city": ', "city"),
        ('"tenant_id": ', '"a: b": 1, "a: b": 1, "tenant_id": ', "a: b"),
    ],
)
def test_a_repeated_key_is_refused_with_its_name(part: str, doubled: str, field: str) -> None:
    error = refused(TEXT.replace(part, doubled, 1))
    assert error.field == field
    assert error.message == "the key occurs more than once in its object; leave one of them"


def test_a_key_may_occur_in_two_objects() -> None:
    value: dict[str, Any] = event_to_json(EVENT)
    assert "city" in json.dumps(value["payload"])
    assert event_from_line(json.dumps(value).encode()) == EVENT


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"tenant_id": "\xff"}', "the line is not valid UTF-8 at byte 15"),
        (b'{"turn_id": NaN}', "the line is not valid JSON: NaN is no JSON number"),
        (b"{", "the line is not valid JSON: "),
        (b"[" * 100_000, "the line is not valid JSON: "),
        (b"[]", "a JSON object was expected, not an array"),
    ],
)
def test_what_is_no_json_object_is_refused(line: bytes, message: str) -> None:
    assert refused(line).message.startswith(message)


@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_at_the_start_of_a_file_is_skipped(tmp_path: Path, packed: bool) -> None:
    text = codecs.BOM_UTF8 + TEXT.encode() + b"\n" + codecs.BOM_UTF8 + TEXT.encode() + b"\n"
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(text) if packed else text)
    first, second = read_lines(str(file))
    assert event_from_line(first) == EVENT
    assert "not valid JSON" in refused(second).message
