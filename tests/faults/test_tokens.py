"""No token for Kafka is given for longer than one lives."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.reasons import UnavailableError
from tests import secured
from tests.oracle import check_everything
from tests.rotating import LIFETIME_S, USER, appending, with_tokens, working_process
from tests.secured import SecuredBroker
from tests.token_service import token_service
from tests.world import World, new_world, wait_until

from .conftest import Recovery

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group(secured.GROUP)]


@pytest.fixture
def fresh(stack: StackAddresses, broker: SecuredBroker) -> Iterator[World]:
    """A world on that broker, set up by somebody who may do everything."""
    made = new_world(replace(stack, bootstrap_servers=broker.plain), partitions=3)
    yield made
    made.close()


@pytest.mark.skipif("FAULT_ROUNDS" not in os.environ, reason="the last token must expire, a minute: `make faults`")
def test_while_no_token_is_given_for_longer_than_one_lives_a_worker_waits_and_says_why(
    fresh: World, broker: SecuredBroker, recovery: Recovery, tmp_path: Path
) -> None:
    with token_service(USER, LIFETIME_S) as service, ExitStack() as ended:
        program = with_tokens(fresh, broker, service)
        with program.working() as running, appending(program) as load:
            load.accepted_from_now_on()
            with service.down():
                late = ended.enter_context(working_process(program, tmp_path))
                with pytest.raises(UnavailableError, match="there is no token for Kafka: HTTPError: HTTP Error 503"):
                    load.renew()
                wait_until(lambda: running.log_lines("kafka_error"), "the broker to refuse the worker's last token")
                wait_until(lambda: late.lines("waiting_to_start"), "a worker that is started to wait")
            with recovery("no token for Kafka for longer than one lives"):
                load.accepted_from_now_on()
        wait_until(lambda: late.lines("worker_started"), "the other worker to start")
    assert "there is no token for Kafka: HTTPError" in late.lines("waiting_to_start")[0]["cause"]
    assert "503" in running.log_lines("token_failed")[0]["cause"]
    assert running.log_lines("token_given")
    assert running.errors == []
    assert running.log_lines("lane_stopped") == []
    check_everything(fresh, len(load.receipts))
