"""The files with certificates that the settings name, and when each ends."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from psycopg.conninfo import conninfo_to_dict

from core_tables.kafka.certificate_validity import validities
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import Settings

Service = Literal["Kafka", "Postgres", "Redis"]
# What names a file, and whether it has authorities.
_OF_KAFKA: Final = {"ssl.certificate.location": False, "ssl.ca.location": True}
_OF_POSTGRES: Final = {"sslcert": False, "sslrootcert": True}
_OF_REDIS: Final = {"ssl_certfile": False, "ssl_ca_certs": True}
_ROLES: Final = ("admin", "worker", "reader", "operator", "scheduler")


class CertificateFile(NamedTuple):
    """A file, the servers whose clients read it, and whether it has authorities, or one client's own certificate."""

    path: Path
    service: Service
    authorities: bool

    def ends(self) -> datetime:
        """The end of the first certificate, which is the client's; of authorities, that of the last one to end.

        Raises OSError or ValueError.
        """
        ends = [each.ends for each in validities(self.path)]
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
