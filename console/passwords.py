"""The password file of the console: a line for each user, `name:scrypt:n:r:p:salt:hash`, salt and hash in base64."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core_tables.schemas.reasons import SetupError

_N, _R, _P = 2**15, 8, 1  # 32 MB and about 0.1 s a password
_MAX_MEMORY: Final = 128 * 1024 * 1024


class _Hashed(NamedTuple):
    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes


def hashed_password(name: str, password: str) -> str:
    """The line of a user."""
    salt = os.urandom(16)
    found = _scrypt(password, _Hashed(_N, _R, _P, salt, b""))
    parts = (
        name,
        "scrypt",
        str(_N),
        str(_R),
        str(_P),
        base64.b64encode(salt).decode(),
        base64.b64encode(found).decode(),
    )
    return ":".join(parts)


class Passwords:
    """Who may use the console, by password. Thread-safe.

    A right password is hashed once; after that this process knows it by a keyed digest, so that a page costs no 0.1 s.
    """

    def __init__(self, users: Mapping[str, _Hashed]) -> None:
        self._users = users
        self._nobody = _Hashed(_N, _R, _P, os.urandom(16), os.urandom(64))
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}

    @classmethod
    def read(cls, file: Path) -> "Passwords":
        """Read a file. Raises SetupError."""
        try:
            lines = file.read_text("utf-8").splitlines()
            users = dict(_user(line) for line in lines if line.strip() and not line.startswith("#"))
        except OSError as error:
            raise SetupError(
                f"{file} cannot be read: {error.strerror}; give --passwords another file", "machine"
            ) from None
        except ValueError:  # its text may quote a hash
            raise SetupError(
                f"{file} has a line that is no user; make lines with `core-tables console --hash-password NAME`",
                "machine",
            ) from None
        if not users:
            raise SetupError(
                f"{file} has no user; make a line with `core-tables console --hash-password NAME`", "machine"
            )
        return cls(users)

    def knows(self, name: str, password: str) -> bool:
        """Whether `accepts` accepted this before."""
        return hmac.compare_digest(self._known.get(name, b""), self._digest(name, password))

    def accepts(self, name: str, password: str) -> bool:
        """Whether this is the password of the user. An unknown user takes as long as a wrong password."""
        wanted = self._users.get(name, self._nobody)
        found = _scrypt(password, wanted)
        if not hmac.compare_digest(found, wanted.hash) or name not in self._users:
            return False
        self._known[name] = self._digest(name, password)
        return True

    def _digest(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")


def _user(line: str) -> tuple[str, _Hashed]:
    name, kind, n, r, p, salt, found = line.strip().split(":")
    if kind != "scrypt" or not name:
        raise ValueError("no user")
    hashed = _Hashed(
        int(n), int(r), int(p), base64.b64decode(salt, validate=True), base64.b64decode(found, validate=True)
    )
    _scrypt("", hashed)  # numbers that scrypt refuses are found at the start
    return name, hashed


def _scrypt(password: str, wanted: _Hashed) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=wanted.salt, n=wanted.n, r=wanted.r, p=wanted.p, maxmem=_MAX_MEMORY, dklen=64
    )
