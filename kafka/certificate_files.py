"""The files with certificates that Kafka clients read when they are made, and never again."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from core_tables.kafka.certificate_validity import validities
from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import admin_client
from core_tables.schemas.reasons import CoreTablesError

_OWN, _AUTHORITIES = "ssl.certificate.location", "ssl.ca.location"
_SETTINGS: Final = (_AUTHORITIES, _OWN, "ssl.key.location", "ssl.keystore.location")


class CertificateFiles:
    """The files that the settings name, compared with what they held when the clients were made."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        named = {name: Path(str(settings.extra[name])) for name in _SETTINGS if name in settings.extra}
        self._paths = {name: path for name, path in named.items() if path.is_file()}
        self._used = self._digest()
        self._reported: str | None = None

    def renewed(self, report: Callable[[str], None]) -> bool:
        """Whether they hold something else by now with which new clients can be made, and may be let in.

        If it cannot be used, `report` is called with why, once until that changes.
        """
        unusable = None
        if self._digest() != self._used:
            unusable = self._why_no_client() or self._why_refused(datetime.now(UTC))
            if unusable is None:
                return True
            if unusable != self._reported:
                report(unusable)
        self._reported = unusable
        return False

    def _why_no_client(self) -> str | None:
        """Why no client can be made; None if one can. Halfway through a change, key and certificate differ."""
        try:
            admin_client(self._settings)
        except (KafkaException, CoreTablesError) as error:
            return error.message if isinstance(error, CoreTablesError) else error.args[0].str()
        return None

    def _why_refused(self, now: datetime) -> str | None:
        """Why a client that can be made could not connect. The client does not compare its own certificate with the time.

        A keystore is not looked at, for it is encrypted; nor are authorities in a form that only the client can read.
        """
        if (path := self._paths.get(_OWN)) is not None:
            try:
                own, *_ = validities(path)
            except (OSError, ValueError) as error:
                return f"the client's certificate in {path} cannot be read: {error}"
            if own.ends <= now:
                return f"the client's certificate in {path} ended at {own.ends:%Y-%m-%d %H:%M:%S} UTC"
            if own.begins > now:
                return f"the client's certificate in {path} is valid from {own.begins:%Y-%m-%d %H:%M:%S} UTC on"
        if (path := self._paths.get(_AUTHORITIES)) is not None:
            try:
                end = max(each.ends for each in validities(path))
            except (OSError, ValueError):
                return None
            if end <= now:
                return f"the last of the authorities in {path} ended at {end:%Y-%m-%d %H:%M:%S} UTC"
        return None

    def _digest(self) -> str | None:
        """A digest of all of them; None if one cannot be read."""
        found = hashlib.sha256()
        for path in self._paths.values():
            try:
                found.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                return None
        return found.hexdigest()
