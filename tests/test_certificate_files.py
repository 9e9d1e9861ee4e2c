"""When a worker makes its Kafka clients again: other certificates are there, and a client can be made with them."""

from pathlib import Path

from core_tables.kafka.certificate_files import CertificateFiles
from core_tables.kafka.client_settings import KafkaSettings

from .certificates import Authority


def test_certificates_are_new_when_they_fit_their_key_and_not_halfway(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, new = authority.issue("own", "/CN=worker"), authority.issue("new", "/CN=worker")
    names = {
        "ssl.certificate.location": own.certificate,
        "ssl.key.location": own.key,
        "ssl.ca.location": authority.certificate,
    }
    settings = KafkaSettings("127.0.0.1:1", extra={"security.protocol": "SSL", **{k: str(v) for k, v in names.items()}})
    files = CertificateFiles(settings)
    assert not files.changed()
    assert files.why_unusable() is None
    new.key.replace(own.key)
    assert files.changed()
    assert "key" in str(files.why_unusable())
    new.certificate.replace(own.certificate)
    assert files.changed()
    assert files.why_unusable() is None
    own.key.unlink()
    assert files.changed()
    assert files.why_unusable() is not None
    assert not CertificateFiles(KafkaSettings("127.0.0.1:1", extra={"ssl.ca.location": "probe"})).changed()
