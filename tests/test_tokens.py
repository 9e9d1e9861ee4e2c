"""A function that gives tokens for Kafka: what happens when it fails, or returns something else."""

import re
import time
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from core_tables.kafka.reported import reported
from core_tables.kafka.tokens import Tokens

TOKEN = ("a token", time.time() + 3600)
LATER = TOKEN[1]


def tokens_after(failures: int) -> Tokens:
    """Of a function that fails so often, then gives a token."""
    left = iter(range(failures))

    def ask(_config: str) -> tuple[str, float]:
        if next(left, None) is not None:
            raise ConnectionError("503")
        return TOKEN

    return Tokens(ask, structlog.get_logger(), pauses_s=(0.0,) * 3)


def test_a_function_that_fails_for_a_moment_is_called_again_and_the_reason_is_logged_once() -> None:
    tokens = tokens_after(3)
    with capture_logs() as lines:
        assert tokens("") == TOKEN
    assert [(line["event"], line.get("cause")) for line in lines] == [
        ("token_failed", "ConnectionError: 503"),
        ("token_given", None),
    ]


def test_a_function_that_fails_for_longer_is_left_to_the_client_which_then_reports_why() -> None:
    tokens = tokens_after(5)
    with pytest.raises(ConnectionError):
        tokens("")
    tokens.note(KafkaError(KafkaError._AUTHENTICATION, "a callback raised"))
    report = reported()
    assert report is not None
    assert report.str() == "there is no token for Kafka: ConnectionError: 503"
    assert tokens("") == TOKEN
    assert reported() is None, "the refusal is over"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("a token", "returned str; it must return the token and when it expires"),
        (("a token",), "returned tuple; it must return the token and when it expires"),
        ((b"a token", LATER), "returned tuple; it must return the token and when it expires"),
        (("a token", time.time() - 5), r"expired \d+ s ago, by this machine's clock"),
        (("a token", LATER, None), "may only add a principal and extensions"),
        (("a token", LATER, "", {"a": 1}), "may only add a principal and extensions"),
    ],
)
def test_an_answer_that_is_no_token_is_named(answer: Any, why: str) -> None:
    tokens = Tokens(lambda _config: answer, pauses_s=())
    with pytest.raises((TypeError, ValueError), match=why):
        tokens("")
    assert re.search(why, str(tokens.failure))


@pytest.mark.parametrize("answer", [TOKEN, (*TOKEN, "ada"), (*TOKEN, "ada", {"a": "b"}), ["a token", int(LATER)]])
def test_a_token_may_come_with_a_principal_and_extensions(answer: Any) -> None:
    assert Tokens(lambda _config: answer)("") == tuple(answer)
