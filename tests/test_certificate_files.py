"""When a worker makes its Kafka clients again, because other certificates are there; and what is said before one ends."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core_tables.cli.certificate_check import look_at_certificates
from core_tables.cli.certificate_metrics import READ_EVERY_S, CertificateCollector
from core_tables.kafka.certificate_files import CertificateFiles
from core_tables.kafka.client_settings import KafkaSettings
from core_tables.schemas.reasons import SetupError
from core_tables.settings.certificates import CertificateFile
from core_tables.settings.environment import Settings

from .certificates import Authority, Certificate
from .metric_tables import samples, scrape


def settings_with(own: Certificate, authority: Path) -> KafkaSettings:
    """Those of a client that has a certificate."""
    names = {
        "ssl.certificate.location": own.certificate,
        "ssl.key.location": own.key,
        "ssl.ca.location": authority,
    }
    return KafkaSettings("127.0.0.1:1", extra={"security.protocol": "SSL", **{k: str(v) for k, v in names.items()}})


def test_certificates_are_new_when_they_fit_their_key_and_not_halfway(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, new = authority.issue("own", "/CN=worker"), authority.issue("new", "/CN=worker")
    files, reports = CertificateFiles(settings_with(own, authority.certificate)), list[str]()
    assert not files.renewed(reports.append)
    assert reports == []
    new.key.replace(own.key)
    assert not files.renewed(reports.append)
    assert not files.renewed(reports.append)
    (report,) = reports
    assert "key" in report
    new.certificate.replace(own.certificate)
    assert files.renewed(reports.append)
    own.key.unlink()
    assert not files.renewed(reports.append)
    assert len(reports) == 2
    probe = CertificateFiles(KafkaSettings("127.0.0.1:1", extra={"ssl.ca.location": "probe"}))
    assert not probe.renewed(reports.append)
    assert len(reports) == 2


def test_new_files_that_no_broker_would_accept_are_reported_once_for_each_change(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, good = authority.issue("own", "/CN=worker"), authority.issue("good", "/CN=worker")
    ended, early = authority.issue_expired("ended", "/CN=worker"), authority.issue_early("early", "/CN=worker")
    ended_authority = authority.issue_expired("ended-authority", "/CN=before").certificate
    trusted, bundle = authority.certificate.read_text("ascii"), tmp_path / "bundle.pem"
    bundle.write_text(trusted, "ascii")
    files, reports = CertificateFiles(settings_with(own, bundle)), list[str]()
    used = {path: path.read_bytes() for path in (own.certificate, own.key)}
    for given in (ended, early):
        own.replace_with(given)
        for _ in range(2):
            assert not files.renewed(reports.append)
    for path, content in used.items():
        path.write_bytes(content)
    assert not files.renewed(reports.append)
    bundle.write_text(ended_authority.read_text("ascii"), "ascii")
    for _ in range(2):
        assert not files.renewed(reports.append)
    bundle.write_text(trusted, "ascii")
    of_client, of_early, of_authorities = reports
    assert f"the client's certificate in {own.certificate} ended at " in of_client
    assert f"the client's certificate in {own.certificate} is valid from " in of_early
    assert f"the last of the authorities in {bundle} ended at " in of_authorities
    own.replace_with(good)
    assert files.renewed(reports.append)
    assert len(reports) == 3


def with_certificate(path: Path, authority: Path) -> Settings:
    """Settings that name a client's certificate and an authority for each of the servers."""
    return Settings(
        bootstrap_servers="127.0.0.1:1",
        kafka={"ssl.certificate.location": str(path), "ssl.ca.location": str(authority)},
        postgres_dsn=f"host=127.0.0.1 sslcert={path} sslrootcert={authority}",
        redis_url=f"rediss://127.0.0.1:1/0?ssl_certfile={path}&ssl_ca_certs={authority}",
    )


def test_each_certificate_that_ends_soon_is_named_with_its_server_and_the_day(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("own", "/CN=worker")  # for two days
    state, what = look_at_certificates(with_certificate(own.certificate, authority.certificate))
    assert state == "note"
    for service in ("Kafka", "Postgres", "Redis"):
        for path in (own.certificate, authority.certificate):
            assert (
                f"{path} ({service}) ends on {CertificateFile(path, 'Kafka', False).ends():%Y-%m-%d}, in 1 days" in what
            )
    assert "replace the file" in what


def test_a_certificate_that_has_ended_or_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    expired = authority.issue_expired("expired", "/CN=worker")
    with pytest.raises(SetupError) as ended:
        look_at_certificates(with_certificate(expired.certificate, authority.certificate))
    for service in ("Kafka", "Postgres", "Redis"):
        assert f"{expired.certificate} ({service}) ended on " in ended.value.message
    assert str(authority.certificate) not in ended.value.message
    with pytest.raises(SetupError, match=r"missing.pem \(Kafka\) cannot be read: No such file"):
        look_at_certificates(with_certificate(tmp_path / "missing.pem", authority.certificate))
    with pytest.raises(SetupError, match=r"expired.key \(Redis\) cannot be read: there is no certificate in it"):
        look_at_certificates(with_certificate(expired.key, authority.certificate))


def test_of_several_authorities_in_a_file_the_last_to_end_counts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    expired = authority.issue_expired("expired", "/CN=before")
    both = tmp_path / "both.pem"
    both.write_text(expired.certificate.read_text("ascii") + authority.certificate.read_text("ascii"), "ascii")
    assert CertificateFile(both, "Kafka", authorities=True).ends() > datetime.now(UTC)
    assert CertificateFile(both, "Kafka", authorities=False).ends() < datetime.now(UTC)


def test_where_no_certificate_is_named_none_is_looked_at() -> None:
    plain = Settings(bootstrap_servers="127.0.0.1:1", postgres_dsn="host=127.0.0.1", redis_url="none")
    assert look_at_certificates(plain) == ("ok", "the settings name none")


def ends_shown(collector: CertificateCollector) -> dict[tuple[str, str], float]:
    """By service and kind."""
    found = samples(scrape(collector), "core_tables_certificate_not_after_timestamp_seconds")
    return {(sample.labels["service"], sample.labels["kind"]): sample.value for sample in found}


def test_the_metric_has_the_first_end_of_each_service_and_kind_and_the_files_are_read_once_a_minute(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    own, ended = authority.issue("own", "/CN=worker"), authority.issue_expired("ended", "/CN=worker")
    settings = with_certificate(own.certificate, authority.certificate)
    settings = settings.model_copy(update={"reader_dsn": f"host=127.0.0.1 sslcert={ended.certificate}"})
    now = 0.0
    collector = CertificateCollector(settings, lambda: now)
    shown = ends_shown(collector)
    ends = {
        path: CertificateFile(path, "Kafka", False).ends().timestamp() for path in (own.certificate, ended.certificate)
    }
    client = {service: shown.pop((service, "client")) for service in ("kafka", "postgres", "redis")}
    assert client == {
        "kafka": ends[own.certificate],
        "postgres": ends[ended.certificate],
        "redis": ends[own.certificate],
    }
    assert shown.keys() == {(service, "authority") for service in client}
    own.certificate.unlink()
    now = READ_EVERY_S - 1
    assert ("kafka", "client") in ends_shown(collector)
    now = READ_EVERY_S
    assert ends_shown(collector).keys() == {*shown, ("postgres", "client")}


def test_no_metric_is_shown_where_no_certificate_is_named() -> None:
    plain = Settings(bootstrap_servers="127.0.0.1:1", postgres_dsn="host=127.0.0.1", redis_url="none")
    assert scrape(CertificateCollector(plain)) == ""


def test_the_end_of_a_certificate_is_what_openssl_reads_in_it(tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(Authority(tmp_path).certificate))
    (shown,) = [each for each in context.get_ca_certs() if "tests" in str(each["subject"])]
    read = CertificateFile(tmp_path / "authority.pem", "Kafka", authorities=True).ends()
    assert read.timestamp() == ssl.cert_time_to_seconds(str(shown["notAfter"]))
