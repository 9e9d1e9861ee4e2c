"""Certificates of an authority of the tests' own, made with openssl."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
SIGNS = "keyUsage=critical,keyCertSign,cRLSign"  # from Python 3.13 on, an authority must say so
HERE = "subjectAltName=IP:127.0.0.1,DNS:localhost"


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    def replace_with(self, other: "Certificate") -> None:
        """What a rotation does: the files keep their names."""
        for old, new in ((self.key, other.key), (self.certificate, other.certificate)):
            new.replace(old)

    def in_one_file(self) -> bytes:
        """The key and the certificate, as a keystore of a broker in PEM has them."""
        return self.key.read_bytes() + self.certificate.read_bytes()


class Authority:
    """Signs certificates for servers on this machine, and for clients. Its files are in a folder, with those of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        _openssl("-keyout", self._key, "-out", self.certificate, "-subj", "/CN=tests", "-addext", SIGNS)

    def issue(self, name: str, subject: str) -> Certificate:
        """A certificate, and its key, in files of a name; the subject is one such as `/CN=worker`."""
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-extensions", "usr_cert", "-addext", HERE)
        _openssl(*signed, "-keyout", made.key, "-out", made.certificate, "-subj", subject)
        return made

    def issue_expired(self, name: str, subject: str) -> Certificate:
        """One that ended yesterday."""
        return self._issue_for(name, subject, timedelta(days=-2), timedelta(days=-1))

    def issue_early(self, name: str, subject: str) -> Certificate:
        """One that is valid from tomorrow on."""
        return self._issue_for(name, subject, timedelta(days=1), timedelta(days=2))

    def _issue_for(self, name: str, subject: str, begins: timedelta, ends: timedelta) -> Certificate:
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        index, config = self._folder / f"{name}.index", self._folder / f"{name}.conf"
        index.touch()
        config.write_text(
            f"[ca]\ndefault_ca=tests\n[tests]\ndatabase={index}\nnew_certs_dir={self._folder}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
        )
        ask = ["openssl", "req", "-new", *KEY, "-keyout", str(made.key), "-subj", subject]
        asked = subprocess.run(ask, check=True, capture_output=True).stdout
        now = datetime.now(UTC)
        dates = [f"-{end}date={now + after:%Y%m%d%H%M%SZ}" for end, after in (("start", begins), ("end", ends))]
        signer = ["-config", str(config), "-cert", str(self.certificate), "-keyfile", str(self._key)]
        words = ["openssl", "ca", "-batch", "-notext", *signer, *[word for date in dates for word in date.split("=")]]
        subprocess.run(
            [*words, "-in", "-", "-out", str(made.certificate)], check=True, capture_output=True, input=asked
        )
        return made


def _openssl(*arguments: str | Path) -> None:
    words = ["openssl", "req", "-x509", *KEY, "-days", "2", *map(str, arguments)]
    subprocess.run(words, check=True, capture_output=True)
