"""The same three parts from containers, through testcontainers, whose reaper removes them if the run is killed."""

import contextlib
import functools
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from core_tables.deploy.stack import StackAddresses

ROOT: Final = Path(__file__).parent.parent
IMAGE: Final = "core-tables:local"  # as the Compose files name it
CLUSTER = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "8",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}


def docker_answers() -> bool:
    """Whether a Docker engine is there to be asked for containers."""
    import docker

    try:
        return bool(docker.from_env(timeout=2).ping())
    except docker.errors.DockerException:
        return False


@functools.cache
def build_image() -> None:
    """Build our image, once for a run. There is no limit: it takes as long as the machine and the package index let it."""
    command = ["docker", "build", "--quiet", "--file", "deploy/Dockerfile", "--tag", IMAGE, "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _kafka() -> Any:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # One port inside and outside: the broker calls its own advertised address when it commits a transaction.
    container = DockerContainer("apache/kafka:4.4.0").with_bind_ports(port, port)
    container.with_envs(
        **CLUSTER,
        KAFKA_LISTENERS=f"PLAINTEXT://:{port},CONTROLLER://:9093",
        KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://localhost:{port}",
    )
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    return container, f"localhost:{port}"


@contextlib.contextmanager
def container_stack() -> Iterator[StackAddresses]:
    """Kafka, Postgres and Redis in containers, as long as the block runs."""
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer

    kafka, bootstrap = _kafka()
    postgres = PostgresContainer("postgres:18", username="postgres", password="postgres", dbname="core_tables")
    postgres.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
    with kafka, postgres, RedisContainer("redis:8") as redis:
        host, port = postgres.get_container_host_ip(), postgres.get_exposed_port(5432)
        redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        yield StackAddresses(bootstrap, f"postgresql://postgres@{host}:{port}/core_tables", redis_url)
