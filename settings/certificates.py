"""The files with certificates that the settings name, and when each can be used no longer."""

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from psycopg.conninfo import conninfo_to_dict

from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import Settings

Service = Literal["Kafka", "Postgres", "Redis"]
# What names a file, and whether it has authorities.
_OF_KAFKA: Final = {"ssl.certificate.location": False, "ssl.ca.location": True}
_OF_POSTGRES: Final = {"sslcert": False, "sslrootcert": True}
_OF_REDIS: Final = {"ssl_certfile": False, "ssl_ca_certs": True}
_ROLES: Final = ("admin", "worker", "reader", "operator", "scheduler")
_PEM: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Of DER: the tags of what a certificate has before its validity, and of the two forms of a time.
_VERSION, _UTC_TIME = 0xA0, 0x17


class CertificateFile(NamedTuple):
    """A file, the servers whose clients read it, and whether it has authorities, or one client's own certificate."""

    path: Path
    service: Service
    authorities: bool

    def ends(self) -> datetime:
        """The end of the first certificate, which is the client's; of authorities, that of the last one to end.

        Raises OSError or ValueError.
        """
        ends = [
            _end_of(ssl.PEM_cert_to_DER_cert(each)) for each in _PEM.findall(self.path.read_text("utf-8", "replace"))
        ]
        if not ends:
            raise ValueError("there is no certificate in it")
        return max(ends) if self.authorities else ends[0]


def certificate_files(settings: Settings) -> list[CertificateFile]:
    """Each file once for a service; a setting that is not there, or cannot be read, names none."""
    found = [*_of_kafka(settings), *_of_postgres(settings), *_of_redis(settings)]
    return list(dict.fromkeys(found))


def _of_kafka(settings: Settings) -> Iterator[CertificateFile]:
    with suppress(CoreTablesError):
        extra = settings.kafka_settings().extra
        for name, authorities in _OF_KAFKA.items():
            path = Path(str(extra.get(name, "")))
            if path.is_dir() or (authorities and not path.exists()):  # `probe`, or a folder of many
                continue
            yield CertificateFile(path, "Kafka", authorities)


def _of_postgres(settings: Settings) -> Iterator[CertificateFile]:
    for database in settings.databases():
        for role in _ROLES:
            with suppress(CoreTablesError):
                dsn = conninfo_to_dict(getattr(database, role)())
                for name, authorities in _OF_POSTGRES.items():
                    path = str(dsn.get(name) or os.environ.get(f"PG{name.upper()}", ""))
                    if path and path != "system":
                        yield CertificateFile(Path(path), "Postgres", authorities)


def _of_redis(settings: Settings) -> Iterator[CertificateFile]:
    with suppress(CoreTablesError):
        given = parse_qs(urlsplit(settings.cache() or "").query)
        for name, authorities in _OF_REDIS.items():
            for path in given.get(name, [])[:1]:
                yield CertificateFile(Path(path), "Redis", authorities)


def _end_of(der: bytes) -> datetime:
    """The end of a certificate's validity (RFC 5280, 4.1). Raises ValueError.

    The standard library shows it only of certificates that an open connection or a context has.
    """
    try:
        signed, _ = _element(der, _element(der, 0)[0])
        tag_at = signed
        if der[tag_at] == _VERSION:
            tag_at = _element(der, tag_at)[1]
        for _ in ("serial number", "signature", "issuer"):
            tag_at = _element(der, tag_at)[1]
        begin, _ = _element(der, tag_at)
        end_at = _element(der, begin)[1]
        first, last = _element(der, end_at)
        form = "%y%m%d%H%M%SZ" if der[end_at] == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(der[first:last].decode("ascii"), form).replace(tzinfo=UTC)
    except IndexError:
        raise ValueError("a certificate in it is cut off") from None


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element begins, and where it ends."""
    length, begin = der[at + 1], at + 2
    if length > 0x7F:  # of more bytes, whose number this is
        begin += length & 0x7F
        length = int.from_bytes(der[at + 2 : begin], "big")
    return begin, begin + length
