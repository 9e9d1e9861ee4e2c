"""A broker that asks for a login and obeys access rules: what is missing is named, and the least rights suffice."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException

from core_tables.cli import output
from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.clients import partition_consumer
from core_tables.kafka.rights import rights_of
from core_tables.producer import Ledger, LedgerSettings
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError, UnavailableError

from . import secured
from .builders import make
from .secured import SecuredBroker
from .world import World, new_world, other_settings, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group(secured.GROUP)]


@pytest.fixture(scope="module")
def world(stack: StackAddresses, broker: SecuredBroker) -> Iterator[World]:
    """A world on that broker, set up by somebody who may do everything."""
    made = new_world(replace(stack, bootstrap_servers=broker.plain))
    yield made
    made.close()


def rights_of_a_worker(world: World) -> list[str]:
    """All of them; the last one is on transactional ids."""
    settings = world.settings
    return [str(right) for right in rights_of("worker", settings.topic, settings.audit_topic, settings.group_id)]


@pytest.mark.parametrize(
    ("settings", "quoted", "code"),
    [
        ({"sasl.password": "wrong"}, "Invalid username or password", output.EXIT_PERMISSION),
        ({"sasl.mechanism": "SCRAM-SHA-256"}, "supported mechanisms: PLAIN", output.EXIT_PERMISSION),
        ({"security.protocol": "SSL"}, "certificate verify failed", output.EXIT_KAFKA),
    ],
)
def test_why_a_broker_does_not_answer_is_what_the_client_reports(
    world: World, broker: SecuredBroker, settings: dict[str, str], quoted: str, code: int
) -> None:
    usual = broker.as_user("administrator")
    address = broker.encrypted if "security.protocol" in settings else broker.login
    wrong = other_settings(world, bootstrap_servers=address, kafka={**usual["kafka"], **settings})
    done = wrong.command("init")
    assert done.returncode == code, done.stderr.decode()
    assert quoted in done.stderr.decode()
    assert "CORE_TABLES_KAFKA" in done.stderr.decode()
    assert b"restore" not in done.stderr


def test_a_certificate_that_is_trusted_encrypts(world: World, broker: SecuredBroker) -> None:
    kafka = {"security.protocol": "SSL", "ssl.ca.location": str(broker.authority.certificate)}
    assert other_settings(world, bootstrap_servers=broker.encrypted, kafka=kafka).init() == []


def test_an_append_that_no_broker_lets_in_says_why_it_is_unknown(world: World, broker: SecuredBroker) -> None:
    kafka = broker.as_user("producer", "wrong")["kafka"]
    ledger = Ledger.connect(LedgerSettings(broker.login, topic=world.settings.topic, kafka=kafka))
    receipt = ledger.append(make("FIELD_SET"))
    with pytest.raises(UnavailableError, match="Invalid username or password"):
        receipt.place(2)


def test_a_topic_that_this_user_may_not_see_is_not_called_deleted(world: World, broker: SecuredBroker) -> None:
    blind = other_settings(world, **broker.as_user("administrator"))
    done = blind.command("init")
    assert done.returncode == output.EXIT_PERMISSION, done.stderr.decode()
    assert f"DESCRIBE on the topic {world.settings.topic}" in done.stderr.decode()
    assert b"restore" not in done.stderr
    broker.grant("administrator", f"DESCRIBE on the topic {world.settings.topic}")
    with pytest.raises(SetupError, match=f"DESCRIBE on the topic {world.settings.audit_topic}"):
        blind.init()
    broker.grant("administrator", f"DESCRIBE on the topic {world.settings.audit_topic}")
    with pytest.raises(SetupError, match=f"DESCRIBE_CONFIGS on the topic {world.settings.topic}") as denied:
        blind.init()
    assert denied.value.subject == "permission"


def test_each_right_that_a_worker_lacks_is_named_at_its_start(world: World, broker: SecuredBroker) -> None:
    limited, rights = other_settings(world, **broker.as_user("worker")), rights_of_a_worker(world)[:-1]
    for number, right in enumerate(rights):
        with pytest.raises(SetupError) as denied, limited.working():
            pass
        assert denied.value.subject == "permission"
        assert [named for named in rights if f"{named}," in denied.value.message.replace(";", ",")] == rights[number:]
        broker.grant("worker", right)


def test_the_least_rights_suffice_and_a_later_start_needs_no_more(world: World, broker: SecuredBroker) -> None:
    broker.grant("worker", *rights_of_a_worker(world))
    broker.grant("producer", f"WRITE on the topic {world.settings.topic}")
    limited, outside = (
        other_settings(world, **broker.as_user("worker")),
        other_settings(world, **broker.as_user("producer")),
    )
    for _ in range(2):
        with limited.working() as running:
            assert outside.outcome(make("FIELD_SET")) == Accepted()
            world.drain()
        assert running.errors == []
        assert running.log_lines("lane_stopped") == []


def test_a_worker_that_writes_no_audit_needs_less(world: World, broker: SecuredBroker) -> None:
    settings = world.settings
    rights = rights_of("worker-no-audit", settings.topic, settings.audit_topic, settings.group_id)
    broker.grant("filler", *map(str, rights))
    with other_settings(world, **broker.as_user("filler")).working(audit=False) as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
    assert running.errors == []


def test_a_transactional_id_that_a_worker_may_not_use_is_named(world: World, broker: SecuredBroker) -> None:
    broker.grant("worker", *rights_of_a_worker(world))
    broker.revoke("worker", rights_of_a_worker(world)[-1])
    with other_settings(world, **broker.as_user("worker")).working() as running:
        (line, *_) = wait_until(lambda: running.log_lines("lane_stopped"), "the lanes to stop")
    assert f"the transactional id {world.settings.audit_topic}." in line["cause"]


def test_a_password_that_was_changed_is_read_again_when_the_login_is_refused(
    world: World, broker: SecuredBroker, tmp_path: Path
) -> None:
    broker.grant("producer", f"WRITE on the topic {world.settings.topic}")
    file = tmp_path / "kafka"
    file.write_text(json.dumps(broker.as_user("producer", "the old one")["kafka"]), "utf-8")
    program = other_settings(world, bootstrap_servers=broker.login, kafka={}, kafka_file=file)
    receipt = program.ledger.append(make("FIELD_SET"))
    unpolled = partition_consumer(program.settings.kafka_settings())  # so it does not report that it was refused
    with pytest.raises(UnavailableError, match="Invalid username or password"):
        receipt.place(1)
    file.write_text(json.dumps(broker.as_user("producer")["kafka"]), "utf-8")
    assert receipt.place(20)
    with closing(unpolled):
        wait_until(lambda: finds_brokers(unpolled), "a client that nobody polls to log in")


def finds_brokers(client: Consumer) -> bool:
    with suppress(KafkaException):
        return bool(client.list_topics(timeout=1).brokers)
    return False


def test_tokens_come_from_a_function_that_is_named_by_its_import_path(world: World, broker: SecuredBroker) -> None:
    broker.grant("worker", *rights_of_a_worker(world))
    kafka = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER"}
    path = f"{secured.__name__}:token_of_a_worker"
    program = other_settings(world, bootstrap_servers=broker.login, kafka=kafka, kafka_oauth=path)
    with program.working() as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
        world.drain()
    assert running.errors == []


def test_an_append_without_the_right_to_write_names_it(world: World, broker: SecuredBroker) -> None:
    broker.revoke("producer", f"WRITE on the topic {world.settings.topic}")
    kafka = broker.as_user("producer")["kafka"]
    ledger = Ledger.connect(LedgerSettings(broker.login, topic=world.settings.topic, kafka=kafka))
    with pytest.raises(SetupError, match=f"WRITE on the topic {world.settings.topic}"):
        ledger.append(make("FIELD_SET")).place(20)
