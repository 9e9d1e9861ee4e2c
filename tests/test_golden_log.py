"""Version 1 is frozen: its schemas, its vectors and its golden log are those it was made with, and decided as they were."""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from core_tables.schemas.events import LedgerEvent, SizedEvent
from core_tables.schemas.vocabulary import SCHEMA_VERSION
from core_tables.schemas.wire import KNOWN_SCHEMAS, WRITER_FINGERPRINT, read_record

from .book import Book
from .both_folds import BothFolds
from .contract_fold import broken_schema
from .golden.grow import append, outcome_json, read

ROOT = Path(__file__).parents[1]
FROZEN = {
    "schemas/avro/work_order_ledger_event_input.v1.avsc": "2d6170717deb420ad5db9f0f9ea4210386be69b6371f40b056f9ad58f27e2968",
    "schemas/avro/work_order_audit_event.v1.avsc": "76f229202722f05e5093370c187c0e7367c894fbfa96b91d73a42c46d5d5189f",
    "schemas/vectors/wire.v1.json": "194cd5190fe4ee9df33d41b064574b1d5eb65ec1f3cebd420876046fde7d53cc",
    "tests/golden/log.v1.jsonl": "9f396a53edfb447adfd637f2abcf5d7725cedf9836897489359afe9e6c31720c",
}


@pytest.mark.parametrize("file", FROZEN)
def test_version_1_is_frozen(file: str) -> None:
    """Programs that read or write this version rely on it. A change needs a new schema_version, with files of its own."""
    digest = sha256((ROOT / file).read_bytes()).hexdigest()
    assert digest == FROZEN[file], f"{file} belongs to version {SCHEMA_VERSION}, which is frozen"


def test_every_record_of_the_golden_log_has_the_outcome_it_had() -> None:
    book = Book()
    for number, line in enumerate(read(), start=1):
        assert outcome_json(append(book, line)) == line["outcome"], (
            f"line {number} of the golden log is decided otherwise now"
        )


def test_the_golden_log_holds_every_kind_of_outcome() -> None:
    kinds = Counter(line["outcome"][0] for line in read())
    assert kinds["Accepted"] > 400
    assert Counter(line["outcome"][2] for line in read() if line["outcome"][0] == "Replayed")[False] > 20
    assert Counter(line["outcome"][2] for line in read() if line["outcome"][0] == "Replayed")[True] > 20
    assert len([line for line in read() if line["outcome"][0] == "Refused" and line["outcome"][2] == "schema"]) > 5
    reasons = {line["outcome"][1] for line in read() if line["outcome"][0] == "Refused"}
    assert len(reasons) == 7, reasons


def test_a_fold_written_from_the_contract_alone_decides_the_golden_log_in_the_same_way() -> None:
    for line in read():
        value, outcome = None if line["value"] is None else bytes.fromhex(line["value"]), line["outcome"]
        why = broken_schema(value, 0, {WRITER_FINGERPRINT: 0})
        assert (why is not None and why[1] == "schema") == (outcome[0] == "Refused" and outcome[2] == "schema")
    both = BothFolds()
    events = [event for event in map(_rightly_routed, read()) if event is not None]
    for event in events:
        both.append(event)
    assert len(events) > 1200


def _rightly_routed(line: dict[str, Any]) -> LedgerEvent | None:
    key, value = (None if line[name] is None else bytes.fromhex(line[name]) for name in ("key", "value"))
    content = read_record(key, value, line["partition"], 12, 0, KNOWN_SCHEMAS)
    return content.event if isinstance(content, SizedEvent) else None
