"""The fault suite: how often each test runs, and how long the way back takes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.recovery import RECOVERY

Recovery = Callable[[str], AbstractContextManager[None]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each test as often as FAULT_ROUNDS says."""
    rounds = int(os.environ.get("FAULT_ROUNDS", "1"))
    if rounds > 1:
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize("fault_round", range(1, rounds + 1), ids=lambda number: f"round {number}")


@pytest.fixture
def recovery(record_property: Callable[[str, object], None]) -> Recovery:
    """`with recovery(fault):` from the end of a fault until everything is folded and audited again."""

    @contextmanager
    def measure(fault: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        record_property(RECOVERY, (fault, time.monotonic() - started))

    return measure
