"""A broker that obeys access rules and asks for a login, next to the stack: for what no stack of ours can show."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from core_tables.deploy import stack as local_stack
from core_tables.deploy.jars import ensure_jars
from core_tables.deploy.parts import Kafka, ShowLine
from core_tables.deploy.process import Start, free_port

from .certificates import Authority, Certificate
from .leftovers import note
from .token_service import unsigned_token
from .world import wait_until

GROUP = "tests/secured.py"  # of the modules whose tests share the broker
PASSWORD = "a password"
USERS = ("administrator", "worker", "filler", "producer")
ALLOW = AclPermissionType.ALLOW
# Beyond the one that asks nobody anything; by name, the protocol.
LISTENERS = {"LOGIN": "SASL_PLAINTEXT", "ENCRYPTED": "SSL", "SCRAM": "SASL_SSL", "MUTUAL": "SSL"}
REAUTH_MS = 4_000  # how often a client of SCRAM or with a token must log in again on a connection that it has


@dataclass(frozen=True)
class SecuredBroker:
    """Its addresses. At `plain`, and at `encrypted`, everybody may do everything; elsewhere a user may do what was granted.

    `login` asks for a password, `scram` too and encrypts, `mutual` asks for a certificate.
    """

    folder: Path
    authority: Authority
    plain: str
    login: str
    encrypted: str
    scram: str
    mutual: str

    def as_user(self, name: str, password: str = PASSWORD) -> dict[str, Any]:
        """The settings of a user."""
        kafka = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        return {
            "bootstrap_servers": self.login,
            "kafka": {**kafka, "sasl.username": name, "sasl.password": password},
        }

    def with_scram(self, name: str, password: str) -> dict[str, str]:
        """The Kafka settings of a user who logs in with SCRAM, over TLS."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority.certificate),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": name,
            "sasl.password": password,
        }

    def with_certificate(self, own: Certificate) -> dict[str, str]:
        """The Kafka settings of a user who has a certificate."""
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.certificate),
            "ssl.certificate.location": str(own.certificate),
            "ssl.key.location": str(own.key),
        }

    def set_password(self, name: str, password: str) -> None:
        """Give a SCRAM user a password."""
        given = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = self.admin()
        for future in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, given, password.encode())]
        ).values():
            future.result()

    def use_stores(self, **files: Path) -> None:
        """Let `mutual` read its `keystore` or `truststore` from a file, or again from the same one. Open connections stay."""
        self._change_stores(AlterConfigOpType.SET, {name: str(path) for name, path in files.items()})

    def usual_stores(self) -> None:
        """The opposite: let it have those of the other listeners."""
        self._change_stores(AlterConfigOpType.DELETE, dict.fromkeys(("keystore", "truststore"), ""))

    def _change_stores(self, change: AlterConfigOpType, files: dict[str, str]) -> None:
        entries = [
            ConfigEntry(f"listener.name.mutual.ssl.{name}.location", path, incremental_operation=change)
            for name, path in files.items()
        ]
        admin, node = self.admin(), ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=entries)
        for future in admin.incremental_alter_configs([node]).values():
            future.result()

    def run_grants(self, script: str) -> None:
        """Run what `grants kafka` prints, with Kafka's own tool."""
        environment = {**os.environ, "KAFKA_ACLS": str(self.folder / "kafka-acls")}
        words = ["sh", "-s", "--", "--bootstrap-server", self.plain]
        done = subprocess.run(words, input=script, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def admin(self) -> AdminClient:
        """A client that may do everything; keep it until it has answered."""
        return AdminClient({"bootstrap.servers": self.plain})

    def grant(self, user: str, *operations: str) -> None:
        """Grant what a text like `READ on the topic x` says; a name that ends with a star is a prefix."""
        admin = self.admin()
        for future in admin.create_acls([binding(user, text) for text in operations]).values():
            future.result()
        self._wait(admin, user, operations, granted=True)

    def revoke(self, user: str, *operations: str) -> None:
        """The opposite."""
        admin = self.admin()
        for text in operations:
            it = binding(user, text)
            filters = AclBindingFilter(
                it.restype, it.name, it.resource_pattern_type, it.principal, it.host, it.operation, it.permission_type
            )
            for future in admin.delete_acls([filters]).values():
                future.result()
        self._wait(admin, user, operations, granted=False)

    @staticmethod
    def _wait(admin: AdminClient, user: str, operations: tuple[str, ...], *, granted: bool) -> None:
        """The controller has the rules; the broker shows them a moment later."""
        anything: Any = None
        every = (ResourceType.ANY, anything, ResourcePatternType.ANY)
        everything = AclBindingFilter(*every, f"User:{user}", anything, AclOperation.ANY, AclPermissionType.ANY)
        wanted = {(it.name, it.operation) for it in (binding(user, text) for text in operations)}

        def shown() -> bool:
            found = {(it.name, it.operation) for it in admin.describe_acls(everything).result()}
            return wanted <= found if granted else not wanted & found

        wait_until(shown, "the broker to show the rules", 20)


def token_of_a_worker(_settings: str) -> tuple[str, float]:
    """A token that this broker believes, since nobody signs it, and when it expires."""
    return unsigned_token("worker", 3600)


def binding(user: str, text: str) -> Any:
    """The rule that allows an operation, given as the errors name it."""
    operation, _, where = text.partition(" on the ")
    kind = next(kind for kind in ("topic", "consumer group", "transactional id") if where.startswith(kind))
    name = where.removeprefix(kind).strip()
    types = {
        "topic": ResourceType.TOPIC,
        "consumer group": ResourceType.GROUP,
        "transactional id": ResourceType.TRANSACTIONAL_ID,
    }
    pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    who, where_from = f"User:{user}", "*"
    return AclBinding(types[kind], name.removesuffix("*"), pattern, who, where_from, AclOperation[operation], ALLOW)


@contextlib.contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """The broker, as long as the block runs."""
    note(folder)
    ports = {name: free_port() for name in LISTENERS}
    authority = Authority(folder)
    own = authority.issue("broker", "/CN=127.0.0.1")
    both = folder / "both.pem"
    both.write_bytes(own.in_one_file())
    prepare = Kafka.prepare

    def prepared(kafka: Kafka, directory: Path, port: int, progress: ShowLine) -> Start:
        start = prepare(kafka, directory, port, progress)
        if not directory.is_relative_to(folder.resolve()):
            return start  # the broker of the ordinary stack, which may start in this process later
        path = directory / "server.properties"
        usual = f"PLAINTEXT://127.0.0.1:{port}"
        more = ",".join([usual, *(f"{name}://127.0.0.1:{number}" for name, number in ports.items())])
        settings = path.read_text("utf-8").replace(usual, more)
        protocols = ",".join([",PLAINTEXT:PLAINTEXT", *(f"{name}:{protocol}" for name, protocol in LISTENERS.items())])
        settings = settings.replace(",PLAINTEXT:PLAINTEXT", protocols)
        path.write_text(settings + _security(both, authority.certificate), "utf-8")
        _write_tool(folder / "kafka-acls", start)
        return start

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kafka, "prepare", prepared)
        try:
            local_stack.start_part(folder, "kafka", print)
            plain = next(part.address for part in local_stack.status(folder) if part.name == "kafka")
            addresses = {name.lower(): f"127.0.0.1:{port}" for name, port in ports.items()}
            yield SecuredBroker(folder, authority, str(plain), **addresses)
        finally:
            local_stack.down(folder, print, wipe=True)


def _write_tool(path: Path, broker: Start) -> None:
    """Kafka's own kafka-acls, on the broker's Java. Maven Central has that of the release before."""
    parts = [f"org.apache.kafka:{part}:4.3.1" for part in ("kafka-tools", "kafka-clients", "kafka-server-common")]
    jars = ensure_jars("kafka-tools", parts, print, with_dependencies=False).read_text("utf-8").splitlines()
    java, classpath = broker.command[0], broker.command[broker.command.index("-cp") + 1]
    options = ["-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", ":".join([*jars, classpath])]
    words = shlex.join([java, *options, "org.apache.kafka.tools.AclCommand"])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    path.chmod(0o755)


def _security(keystore: Path, authority: Path) -> str:
    """Settings of the broker: its users, its certificate, and that nobody may do what he was not granted."""
    package = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in USERS)
    oauth = f'{package}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
    return (
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        "super.users=User:ANONYMOUS\n"
        "sasl.enabled.mechanisms=PLAIN,OAUTHBEARER\n"
        f"listener.name.login.plain.sasl.jaas.config={package}.plain.PlainLoginModule required {users};\n"
        f"listener.name.login.oauthbearer.sasl.jaas.config={oauth};\n"
        f"listener.name.login.oauthbearer.connections.max.reauth.ms={REAUTH_MS}\n"
        "listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512\n"
        f"listener.name.scram.scram-sha-512.sasl.jaas.config={package}.scram.ScramLoginModule required;\n"
        f"listener.name.scram.scram-sha-512.connections.max.reauth.ms={REAUTH_MS}\n"
        "listener.name.mutual.ssl.client.auth=required\n"
        f"ssl.keystore.type=PEM\nssl.keystore.location={keystore}\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={authority}\n"
    )
