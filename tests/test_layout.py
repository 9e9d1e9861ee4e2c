"""How rows lie on a screen: identifiers stay whole, words stay whole, and nothing is lost."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from core_tables.cli.layout import record_lines, table_lines

NAMES = ("work_order_id", "outcome_reason", "sentence")
LONG = "order-" + "7" * 122
SENTENCE = "the work order is DONE; only one in DRAFT, CLARIFY or CONFIRM can be canceled"
TEXTS = st.text(st.sampled_from("abcXYZ0-_東 "), max_size=90).map(lambda text: " ".join(text.split()))


def lines(*rows: tuple[str, ...], width: int | None = 80) -> list[str]:
    return list(table_lines(NAMES, rows, [False] * len(NAMES), width))


def words(text: str) -> list[str]:
    return sorted(text.split())


def test_rows_that_fit_are_lines_below_the_names_of_their_columns() -> None:
    assert lines(("order-1", "", "ok"), ("order-22", "LEASE", "no")) == [
        "work_order_id  outcome_reason  sentence",
        "order-1                        ok",
        "order-22       LEASE           no",
    ]


def test_a_sentence_is_wrapped_at_words_below_its_beginning() -> None:
    head, first, *rest = lines(("order-1", "LEASE_HELD_BY_OTHER", SENTENCE))
    assert head.split() == list(NAMES)
    assert first.startswith("order-1        LEASE_HELD_BY_OTHER  the work order")
    assert all(line.startswith(" " * first.index("the work")) for line in rest)


def test_names_are_broken_where_no_text_can_be_wrapped() -> None:
    found = list(table_lines(("very_long_name_of_a_number", "id"), [("7", "x" * 60)], [True, False], 70))
    assert found[-1].split() == ["7", "x" * 60]
    assert "".join(line.split()[0] for line in found[:-1]) == "very_long_name_of_a_number"
    assert max(map(len, found)) <= 70


def test_a_name_keeps_its_spaces_and_may_be_empty() -> None:
    head, _ = table_lines(("reason (field)", ""), [("x", "1")], [False, True], 80)
    assert head == "reason (field)"
    assert list(table_lines(("", "id"), [("7", "x" * 90)], [True, False], 80)) == ["   id", "7  " + "x" * 90]


def test_rows_that_are_too_wide_are_shown_as_records() -> None:
    assert lines((LONG, "R" * 40, "why"), ("order-2", "", "why not")) == [
        f"work_order_id   {LONG}",
        f"outcome_reason  {'R' * 40}",
        "sentence        why",
        "",
        "work_order_id   order-2",
        "sentence        why not",
    ]


def test_a_file_or_a_pipe_gets_a_line_for_each_row() -> None:
    assert len(lines((LONG, "R" * 40, SENTENCE * 5), ("order-2", "", "why"), width=None)) == 3


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4), st.integers(40, 120))
@example([(LONG, "R" * 42, SENTENCE)], 80)
def test_whatever_the_width_no_word_is_broken_and_none_is_lost(rows: list[tuple[str, ...]], width: int) -> None:
    found = lines(*rows, width=width)
    shown = words(" ".join(found))
    for cell in (cell for row in rows for cell in row):
        for word in cell.split():
            assert word in shown
    longest = max((cell_len(word) for row in rows for cell in row for word in cell.split()), default=0)
    for line in found:
        assert cell_len(line) <= width or longest > 20 or re.search(r"^\w+\s+\S+$", line), line


def test_a_record_has_a_line_for_each_value_of_a_field() -> None:
    assert list(record_lines([("id", ["7"]), ("fields", ["a: 1", "b: 2"])], 80)) == [
        "id      7",
        "fields  a: 1",
        "        b: 2",
    ]
