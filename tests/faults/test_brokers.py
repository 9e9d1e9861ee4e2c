"""Three brokers, of which each is killed once under load: that of the group's coordinator first. And one without any load."""

import os
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.clients import admin_client
from core_tables.producer import Receipt
from core_tables.schemas.reasons import UnavailableError
from core_tables.settings.environment import Settings
from tests.builders import day
from tests.cluster import NODES, three_brokers
from tests.leftovers import note
from tests.oracle import check_everything
from tests.world import World, wait_until

from .conftest import Recovery

pytestmark = pytest.mark.stack

SMALL = ("-Xmx256m", "-XX:TieredStopAtLevel=1")
AT_ONCE, EVERY_S = 30, 0.1  # 300 events a second
WORKERS = 2
PATIENCE_S = 180.0
MINUTES = pytest.mark.skipif(
    "FAULT_ROUNDS" not in os.environ, reason="three brokers take minutes of two cores: `make faults`"
)


class Load:
    """Events that a thread appends at a steady rate, until it is ended."""

    def __init__(self, world: World) -> None:
        self.receipts: list[Receipt] = []
        self._world = world
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        seed = 0
        while not self._ended.wait(EVERY_S):
            seed += 1
            self.receipts += [self._world.ledger.append(event) for event in day(AT_ONCE, seed=seed)]

    def end(self) -> list[Receipt]:
        """Stop it; the appends whose fate is unknown. The others are noted as acknowledged."""
        self._ended.set()
        self._thread.join()
        unknown = []
        for receipt in self.receipts:
            try:
                self._world.note(receipt)
            except UnavailableError:
                unknown.append(receipt)
        return unknown


@MINUTES
def test_each_of_three_brokers_is_killed_under_load_and_nothing_is_lost_or_doubled(
    stack: StackAddresses, tmp_path: Path, recovery: Recovery
) -> None:
    with three_brokers(note(tmp_path), SMALL) as brokers, ExitStack() as ended:
        world = World(replace(stack, bootstrap_servers=brokers.servers), f"brokers{os.getpid()}{tmp_path.name[-1]}")
        ended.callback(world.close)
        world.settings = world.settings.model_copy(update={"replication": len(NODES)})
        brokers.wait(world.settings)
        world.init()
        log = ended.enter_context((tmp_path / "log").open("wb"))
        processes = [world.worker_process(log=log) for _ in range(WORKERS)]
        for process in processes:
            ended.callback(_end, process)
        load = Load(world)
        ended.callback(load.end)
        wait_until(lambda: any(applied for applied, _ in world.positions().values()), "the first batch", PATIENCE_S)
        coordinator = brokers.coordinator(world.settings)
        for node in sorted(NODES, key=lambda each: (each != coordinator, each)):
            led = brokers.coordinator(world.settings) == node
            brokers.kill(node)
            _folds_on(world)
            assert brokers.coordinator(world.settings) != node
            assert led or node != coordinator, "the group's coordinator was killed"
            brokers.start(node)
            brokers.wait(world.settings)
            _folds_on(world)
        unknown = load.end()
        with recovery("each of three brokers killed once, under load"):
            world.drain(PATIENCE_S)
        for process in processes:
            assert process.poll() is None, f"a worker ended; see {tmp_path / 'log'}"
            _end(process)
        records = sum(world.log_ends().values())
        check_everything(world, records, unknown=[receipt.event for receipt in unknown])


@MINUTES
def test_an_open_question_looks_for_a_lost_broker_only_now_and_then(tmp_path: Path) -> None:
    """Each client of each program would else keep a core busy until the question ends."""
    with three_brokers(note(tmp_path), SMALL) as brokers:
        settings = Settings(bootstrap_servers=brokers.servers)
        brokers.wait(settings)
        admin = admin_client(settings.kafka_settings())
        controller = admin.describe_cluster(request_timeout=30).result().controller
        assert controller is not None
        brokers.kill(controller.id)
        before = _refused_connections()
        with pytest.raises(KafkaException):
            admin.describe_cluster(request_timeout=3).result()
        assert _refused_connections() - before < 1_000


def _refused_connections() -> int:
    """How many connections programs of this machine did not get so far (proc_net(5): AttemptFails)."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text("utf-8").splitlines() if "Tcp:" in line)
    return int(dict(zip(names, values, strict=True))["AttemptFails"])


def _folds_on(world: World) -> None:
    """Wait until everything that is in the topic now is folded and audited, with one of the brokers down or not."""
    wait_until(world.answers, "every partition to have a leader", PATIENCE_S)
    ends = world.log_ends()
    wait_until(
        lambda: all(min(pair) >= ends[lane] for lane, pair in world.positions().items()),
        "the lanes to be folded and audited as far as the log was",
        PATIENCE_S,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(60)
