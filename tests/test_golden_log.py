"""Decisions are frozen: the golden log still has the outcomes that it had when it was written."""

from collections import Counter

from .book import Book
from .golden.grow import append, outcome_json, read


def test_every_record_of_the_golden_log_has_the_outcome_it_had() -> None:
    book = Book()
    for number, line in enumerate(read(), start=1):
        assert outcome_json(append(book, line)) == line["outcome"], (
            f"line {number} of the golden log is decided otherwise now"
        )


def test_the_golden_log_holds_every_kind_of_outcome() -> None:
    kinds = Counter(line["outcome"][0] for line in read())
    assert kinds["Accepted"] > 100
    assert kinds["Replayed"] > 20
    reasons = {line["outcome"][1] for line in read() if line["outcome"][0] == "Refused"}
    assert len(reasons) >= 6, reasons
