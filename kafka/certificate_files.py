"""The files with certificates that Kafka clients read when they are made, and never again."""

import hashlib
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import admin_client
from core_tables.schemas.reasons import CoreTablesError

_SETTINGS: Final = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location")


class CertificateFiles:
    """The files that the settings name, compared with what they held when the clients were made."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        named = (Path(str(settings.extra[name])) for name in _SETTINGS if name in settings.extra)
        self._paths = [path for path in named if path.is_file()]
        self._used = self._digest()

    def changed(self) -> bool:
        """Whether they hold something else by now, or are being replaced."""
        return self._digest() != self._used

    def why_unusable(self) -> str | None:
        """Why no client can be made with what they hold; None if one can. Halfway through a change, key and certificate differ."""
        try:
            admin_client(self._settings)
        except (KafkaException, CoreTablesError) as error:
            return error.message if isinstance(error, CoreTablesError) else error.args[0].str()
        return None

    def _digest(self) -> str | None:
        """A digest of all of them; None if one cannot be read."""
        found = hashlib.sha256()
        for path in self._paths:
            try:
                found.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                return None
        return found.hexdigest()
