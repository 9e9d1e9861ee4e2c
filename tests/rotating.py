"""Programs that work while a test replaces what they log in with: one that appends all the time, and a worker."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core_tables.kafka.rights import rights_of
from core_tables.producer import Ledger, LedgerSettings, Receipt
from core_tables.schemas.outcomes import Accepted

from .builders import make
from .secured import SecuredBroker
from .token_service import ASK, TokenService
from .world import World, other_settings, wait_until

USER = "tokens"
LIFETIME_S = 10  # of a token; it is renewed when four fifths of that are over
TENANTS = 7
_EVERY_S = 0.03


class Load:
    """Appends all the time, in a thread; each append must be acknowledged, and in the end accepted."""

    def __init__(self, world: World) -> None:
        self.receipts: list[Receipt] = []
        self._world = world
        self._ledger = self._connect()
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def renew(self) -> None:
        """What a program does whose files were replaced: it makes a new Ledger, and closes the old one."""
        new = self._connect()
        with self._changing:
            old, self._ledger = self._ledger, new
        old.close()

    def accepted_from_now_on(self) -> None:
        """Wait for the outcome of an append that is still to come."""
        count = len(self.receipts)
        wait_until(lambda: len(self.receipts) > count, "another append")
        assert self.receipts[count].outcome(60) == Accepted()

    def end(self) -> None:
        """Stop appending, and note what was acknowledged; everything was."""
        self.stop()
        for receipt in self.receipts:
            self._world.note(receipt)
        assert set(self._ledger.outcomes(self.receipts, 60)) == {Accepted()}
        self._ledger.close()

    def stop(self) -> None:
        """Stop appending."""
        self._ended.set()
        self._thread.join()

    def _connect(self) -> Ledger:
        return Ledger.connect(LedgerSettings.of(self._world.settings))

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            number = len(self.receipts)
            names = {"tenant_id": f"load-{number % TENANTS}", "work_order_id": f"{number}"}
            event = make("FIELD_SET", **names) if number % 5 else make("WORK_ORDER_CREATED", **names)
            with self._changing:
                self.receipts.append(self._ledger.append(event))


class WorkerLog:
    """The log of a worker process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines with an event code."""
        named = (line for line in self._path.read_text("utf-8").splitlines() if f'"event": "{event}"' in line)
        return [json.loads(line) for line in named]


@contextmanager
def appending(world: World) -> Iterator[Load]:
    """A program that appends, as long as the block runs; then everything is folded and audited."""
    load = Load(world)
    try:
        yield load
        load.end()
    finally:
        load.stop()
    world.drain()


@contextmanager
def working_process(world: World, folder: Path) -> Iterator[WorkerLog]:
    """A worker as an operator starts it, which still runs when the block ends."""
    path = folder / "worker.log"
    with path.open("wb") as file:
        process = world.worker_process(log=file)
        try:
            yield WorkerLog(path)
            assert process.poll() is None, path.read_text("utf-8")
        finally:
            process.terminate()
            process.wait(60)


def grant_all(world: World, broker: SecuredBroker, user: str) -> None:
    """Grant what a worker needs, and what a program that appends does."""
    settings = world.settings
    rights = rights_of("worker", settings.topic, settings.audit_topic, settings.group_id)
    broker.grant(user, *map(str, rights), f"WRITE on the topic {settings.topic}")


def with_tokens(world: World, broker: SecuredBroker, service: TokenService) -> World:
    """The same world, reached with tokens of the service."""
    grant_all(world, broker, USER)
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER"}
    kafka = {**login, "sasl.oauthbearer.config": service.url}
    return other_settings(world, bootstrap_servers=broker.login, kafka=kafka, kafka_oauth=ASK)
