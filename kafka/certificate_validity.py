"""From when and until when the certificates in a file can be used.

The standard library shows it only of certificates that an open connection or a context has.
"""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

_PEM: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Of DER: the tags of what a certificate has before its validity, and of the two forms of a time.
_VERSION, _UTC_TIME = 0xA0, 0x17


class Validity(NamedTuple):
    """A certificate is valid from `begins` to `ends`."""

    begins: datetime
    ends: datetime


def validities(path: Path) -> list[Validity]:
    """That of each certificate in a PEM file, in the order of the file; the first is the client's own, if it has one.

    Raises OSError, and ValueError if there is none, or one is damaged.
    """
    found = [_validity(ssl.PEM_cert_to_DER_cert(each)) for each in _PEM.findall(path.read_text("utf-8", "replace"))]
    if not found:
        raise ValueError("there is no certificate in it")
    return found


def _validity(der: bytes) -> Validity:
    """What RFC 5280, 4.1 has at this place. Raises ValueError."""
    try:
        signed, _ = _element(der, _element(der, 0)[0])
        tag_at = signed
        if der[tag_at] == _VERSION:
            tag_at = _element(der, tag_at)[1]
        for _ in ("serial number", "signature", "issuer"):
            tag_at = _element(der, tag_at)[1]
        begin_at, _ = _element(der, tag_at)
        end_at = _element(der, begin_at)[1]
        return Validity(_time(der, begin_at), _time(der, end_at))
    except IndexError:
        raise ValueError("a certificate in it is cut off") from None


def _time(der: bytes, at: int) -> datetime:
    first, last = _element(der, at)
    form = "%y%m%d%H%M%SZ" if der[at] == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(der[first:last].decode("ascii"), form).replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element begins, and where it ends."""
    length, begin = der[at + 1], at + 2
    if length > 0x7F:  # of more bytes, whose number this is
        begin += length & 0x7F
        length = int.from_bytes(der[at + 2 : begin], "big")
    return begin, begin + length
