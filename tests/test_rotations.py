"""What programs log in with is replaced while they work: nothing is lost, nothing restarts, and no lane stops."""

import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core_tables.deploy.stack import StackAddresses

from . import secured
from .certificates import Authority
from .oracle import check_everything
from .rotating import LIFETIME_S, USER, appending, grant_all, with_tokens, working_process
from .secured import SecuredBroker
from .token_service import token_service
from .world import World, new_world, other_settings, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group(secured.GROUP)]
MOMENT = 3  # how often the service of tokens fails


@pytest.fixture
def world(stack: StackAddresses, broker: SecuredBroker) -> Iterator[World]:
    """A world on that broker, set up by somebody who may do everything."""
    made = new_world(replace(stack, bootstrap_servers=broker.plain), partitions=3)
    yield made
    made.close()


def test_the_authority_of_kafka_is_replaced_under_load_without_a_restart(
    world: World, broker: SecuredBroker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As docs/SECURING.md says: trust both, give the broker and the clients new certificates, then trust the new one only."""
    request.addfinalizer(broker.usual_stores)
    grant_all(world, broker, "CN=rotated")
    old, new = broker.authority, Authority(tmp_path)
    own, next_own = old.issue("rotated", "/CN=rotated"), new.issue("next", "/CN=rotated")
    keystore, trusted = tmp_path / "keystore.pem", tmp_path / "trusted.pem"
    shutil.copy(old.certificate, trusted)
    kafka = {**broker.with_certificate(own), "ssl.ca.location": str(trusted)}
    program = other_settings(world, bootstrap_servers=broker.mutual, kafka=kafka)
    with working_process(program, tmp_path) as log, appending(program) as load:

        def renewed(count: int) -> None:
            wait_until(lambda: len(log.lines("worker_started")) == count, "the worker to make new clients")
            load.renew()
            load.accepted_from_now_on()

        renewed(1)
        trust(trusted, old, new)
        broker.use_stores(truststore=trusted)
        renewed(2)

        keystore.write_bytes(new.issue("broker", "/CN=127.0.0.1").in_one_file())
        broker.use_stores(keystore=keystore)
        own.replace_with(next_own)
        renewed(3)

        trust(trusted, new)
        broker.use_stores(truststore=trusted)
        renewed(4)
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.get_server_certificate(address(broker.mutual), ca_certs=str(old.certificate))
    assert len(log.lines("worker_started")) == 4
    assert log.lines("lane_stopped") == []
    check_everything(world, len(load.receipts))


def test_short_lived_tokens_are_renewed_under_load_though_their_service_fails_for_a_moment(
    world: World, broker: SecuredBroker
) -> None:
    """The broker asks for a login again on open connections, and closes those whose token has expired."""
    with token_service(USER, LIFETIME_S) as service, token_service(USER, LIFETIME_S) as steady:
        program, outside = with_tokens(world, broker, service), with_tokens(world, broker, steady)
        with program.working() as running, appending(outside) as load:
            load.accepted_from_now_on()
            before = max(service.given)
            service.refuse(MOMENT)
            wait_until(lambda: running.log_lines("token_given"), "the worker to have a token again")
            wait_until(lambda: time.time() > before, "every token of before to expire")
            load.accepted_from_now_on()
    assert service.refused == MOMENT
    assert "503" in running.log_lines("token_failed")[0]["cause"]
    assert running.errors == []
    assert running.log_lines("lane_stopped") == []
    check_everything(world, len(load.receipts))


def trust(file: Path, *authorities: Authority) -> None:
    """Replace the file with the authorities that are trusted, at once."""
    staged = file.with_suffix(".new")
    staged.write_bytes(b"".join(each.certificate.read_bytes() for each in authorities))
    staged.replace(file)


def address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return host, int(port)
