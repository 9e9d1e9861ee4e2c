"""A broker that obeys access rules and asks for a login, next to the stack: for what no stack of ours can show."""

import contextlib
import json
import subprocess
import time
from base64 import urlsafe_b64encode
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
    ResourcePatternType,
    ResourceType,
)

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import Kafka, ShowLine
from core_tables.deploy.process import Start, free_port

from .leftovers import note
from .world import wait_until

PASSWORD = "a password"
USERS = ("administrator", "worker", "producer")
ALLOW = AclPermissionType.ALLOW


@dataclass(frozen=True)
class SecuredBroker:
    """Its addresses. At `plain` everybody may do everything; elsewhere a user may do what was granted."""

    plain: str
    login: str
    encrypted: str
    certificate: Path

    def as_user(self, name: str, password: str = PASSWORD) -> dict[str, Any]:
        """The settings of a user."""
        kafka = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        return {
            "bootstrap_servers": self.login,
            "kafka": {**kafka, "sasl.username": name, "sasl.password": password},
        }

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
    now = int(time.time())
    claims = {"sub": "worker", "iat": now, "exp": now + 3600}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".", now + 3600.0


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
    login, encrypted = free_port(), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    keys = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *keys, *subject], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text("ascii") + certificate.read_text("ascii"), "ascii")
    prepare = Kafka.prepare

    def prepared(kafka: Kafka, directory: Path, port: int, progress: ShowLine) -> Start:
        start = prepare(kafka, directory, port, progress)
        path = directory / "server.properties"
        usual = f"PLAINTEXT://127.0.0.1:{port}"
        more = f"{usual},SASL_PLAINTEXT://127.0.0.1:{login},SSL://127.0.0.1:{encrypted}"
        settings = path.read_text("utf-8").replace(usual, more)
        settings = settings.replace(
            ",PLAINTEXT:PLAINTEXT", ",PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL"
        )
        path.write_text(settings + _security(both), "utf-8")
        return start

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kafka, "prepare", prepared)
        try:
            local_stack.start_part(folder, "kafka", print)
            plain = next(part.address for part in local_stack.status(folder) if part.name == "kafka")
            yield SecuredBroker(str(plain), f"127.0.0.1:{login}", f"127.0.0.1:{encrypted}", certificate)
        finally:
            local_stack.down(folder, print, wipe=True)


def _security(keystore: Path) -> str:
    """Settings of the broker: its users, its certificate, and that nobody may do what he was not granted."""
    package = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in USERS)
    oauth = f'{package}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
    return (
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        "super.users=User:ANONYMOUS\n"
        "sasl.enabled.mechanisms=PLAIN,OAUTHBEARER\n"
        f"listener.name.sasl_plaintext.plain.sasl.jaas.config={package}.plain.PlainLoginModule required {users};\n"
        f"listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config={oauth};\n"
        f"ssl.keystore.type=PEM\nssl.keystore.location={keystore}\n"
    )
