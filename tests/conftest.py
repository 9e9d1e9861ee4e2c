"""Fixtures: the real Kafka, Postgres and Redis, from containers where a Docker engine answers, else as local processes."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses

from . import forking
from .containers import container_stack, docker_answers
from .leftovers import note
from .order import pytest_addoption, pytest_collection_modifyitems, pytest_configure
from .secured import SecuredBroker, secured_broker
from .world import World, new_world

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_configure"]  # hooks

# A broker of a test lives for minutes at most: the optimizing compiler would take more than it gives. Starting one takes 4.3 s of
# CPU instead of 7, and 50,000 records 2.4 s instead of 4.6.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

settings.register_profile(
    "default",
    max_examples=200,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")


def pytest_sessionfinish() -> None:
    """In each process that runs tests: end what was started next to them."""
    forking.end()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackAddresses]:
    """Where the three parts answer. CORE_TABLES_TEST_STACK=docker or local chooses; default: what is there."""
    chosen = os.environ.get("CORE_TABLES_TEST_STACK") or ("docker" if docker_answers() else "local")
    if chosen == "docker":
        with container_stack() as addresses:
            yield addresses
        return
    folder = note(tmp_path_factory.mktemp("stack"))
    try:
        yield local_stack.up(folder, print)
    finally:
        local_stack.down(folder, print, wipe=True)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker that asks for logins and obeys access rules. The modules that use it are in one group: GROUP of secured.py."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as started:
        yield started


@pytest.fixture(scope="module")
def world(stack: StackAddresses) -> Iterator[World]:
    """A database and topics of this module's own, set up by `init`, without a worker."""
    made = new_world(stack)
    yield made
    made.close()


@pytest.fixture
def fresh(stack: StackAddresses) -> Iterator[World]:
    """A world of one test's own, set up by `init`, without a worker."""
    made = new_world(stack)
    yield made
    made.close()
