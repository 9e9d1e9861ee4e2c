"""What `doctor` says of the certificates that the settings name: when they end, and what to do before that."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from core_tables.schemas.reasons import SetupError
from core_tables.settings.certificates import CertificateFile, certificate_files
from core_tables.settings.environment import Settings

_SOON: Final = timedelta(days=21)
_RENEW: Final = "renew it, and replace the file (docs/SECURING.md, Changing passwords and certificates)"


def look_at_certificates(settings: Settings) -> tuple[Literal["ok", "note"], str]:
    """When the certificates end. Raises SetupError if one has ended, or cannot be read."""
    ends: list[tuple[datetime, CertificateFile]] = []
    wrong = []
    now = datetime.now(UTC)
    files = certificate_files(settings)
    for file in files:
        try:
            end = file.ends()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            wrong.append(
                f"{_named(file)} cannot be read: {why}; correct its name in the settings, or see that it is mounted"
            )
            continue
        ends.append((end, file))
        if end <= now:
            wrong.append(f"{_named(file)} ended on {end:%Y-%m-%d}; {_RENEW}")
    if wrong:
        raise SetupError("; ".join(wrong), "machine")
    soon = [
        f"{_named(file)} ends on {end:%Y-%m-%d}, in {(end - now).days} days" for end, file in ends if end - now < _SOON
    ]
    if soon:
        return "note", f"{'; '.join(soon)}; {_RENEW}"
    if not ends:
        return "ok", "the settings name none"
    end, file = min(ends)
    return "ok", f"{len(ends)}; the first to end is {_named(file)}, on {end:%Y-%m-%d}"


def _named(file: CertificateFile) -> str:
    return f"{file.path} ({file.service})"
