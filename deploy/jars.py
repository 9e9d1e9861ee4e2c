"""Jars of the broker and of tools: jgo resolves them, and we download them into the user's cache.

jgo writes a download in place, accepts a truncated file at the next try, and only warns if a checksum differs, so one dropped
connection would spoil the cache permanently. Here, a file gets its name only when it is complete and its checksum is right.

That checksum is from where the file is from. Which jars are used is said by jars.sha256, a list of ours: any other is refused.
`python -m core_tables.deploy.jars COORDINATE…` adds the jars of a coordinate to the list.
"""

import hashlib
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import requests
from jgo.maven import MavenContext, PythonResolver
from requests.adapters import HTTPAdapter

from core_tables.schemas.reasons import SetupError

TRIES: Final = 4
JARS: Final = Path(__file__).with_name("jars.sha256")
_PAUSE_S: Final = 1.0  # doubled after each failed try
_TIMEOUT_S: Final = 30
_QUIET_S: Final = 3.0  # between two lines of progress


def ensure_jars(
    name: str, coordinates: list[str], progress: Callable[[str], None], *, with_dependencies: bool = True
) -> Path:
    """Download the jars that are missing; return the file that lists all of them, one path a line. Raises SetupError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "core-tables"
    repository = cache / "maven"
    note = cache / f"{name}.jars"
    if _complete(note, repository):
        return note
    progress(f"{name}: downloading it and its dependencies into {cache}, once")
    try:
        jars = _resolve(repository, coordinates, progress, with_dependencies=with_dependencies)
        check_jars(repository, jars, JARS.read_text("utf-8"))
        # Written last, so that the note exists only if all jars do.
        _write_whole(note, "\n".join(str(jar) for jar in jars).encode())
    except SetupError:
        raise
    except Exception as error:  # the resolver raises whatever its parsers and the HTTP client do
        raise SetupError(
            f"{name}: its jars could not be downloaded ({error}); check the network connection, then try again",
            "machine",
        ) from error
    progress(f"{name}: {len(jars)} jars are complete")
    return note


def _complete(note: Path, repository: Path) -> bool:
    """Whether all jars of the note exist in the repository."""
    if not note.exists():
        return False
    jars = [Path(line) for line in note.read_text("utf-8").splitlines()]
    return bool(jars) and all(jar.is_relative_to(repository) and jar.exists() for jar in jars)


def check_jars(repository: Path, jars: list[Path], listed: str) -> None:
    """Raise SetupError, and remove the file, if a jar is not the one that the list has under its path."""
    known: dict[str, str] = {}
    for line in listed.splitlines():
        checksum, path = line.split()
        known[path] = checksum
    for jar in jars:
        path = jar.relative_to(repository).as_posix()
        if known.get(path) != _sha256(jar):
            jar.unlink()
            raise SetupError(
                f"the jar {path} is {'not the one that' if path in known else 'not in'} deploy/jars.sha256"
                f"{' lists' if path in known else ''}; it was removed: see where it was downloaded from, then try again",
                "machine",
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _resolve(
    repository: Path, coordinates: list[str], progress: Callable[[str], None], *, with_dependencies: bool = True
) -> list[Path]:
    resolver = _CheckedDownloads(progress)
    context = MavenContext(resolver=resolver, repo_cache=repository, local_repos=[])
    wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
    if not with_dependencies:
        return [Path(dependency.artifact.resolve()) for dependency in wanted]
    inputs, transitive = resolver.resolve(wanted)
    needed = [*inputs, *(found for found in transitive if found.scope in ("compile", "runtime"))]
    resolver.total = resolver.files + len(needed)
    return sorted({Path(found.artifact.resolve()) for found in needed})


class _CheckedDownloads(PythonResolver):  # type: ignore[misc, unused-ignore]  # untyped where jgo is not installed
    """jgo's resolver, with downloads that are complete or absent, and that are retried."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        super().__init__()
        self.files = 0
        self.total: int | None = None  # known once the poms are read
        self._session = new_session()
        self._progress = progress
        self._said = time.monotonic()

    def download(self, artifact: Any) -> Path:
        relative = (artifact.component.path_prefix / artifact.filename).as_posix()
        (base,) = artifact.context.remote_repos.values()
        path = Path(artifact.cached_path)
        _write_whole(path, _fetch(self._session, f"{base.rstrip('/')}/{relative}"))
        self.files += 1
        if time.monotonic() - self._said > _QUIET_S:
            self._said = time.monotonic()
            self._progress(f"kafka: {self.files} files downloaded" + (f" of {self.total}" if self.total else ""))
        return path


class _TrustingTheSystem(HTTPAdapter):
    """Trusts the authorities of the system, too: requests knows its own list only, and so not that of a company's proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **kwargs)


def new_session() -> requests.Session:
    """What downloads are made with."""
    made = requests.Session()
    made.mount("https://", _TrustingTheSystem())
    return made


def _fetch(session: requests.Session, url: str) -> bytes:
    """Download a file, and check its checksum. Retries, except if the file does not exist."""
    for attempt in range(TRIES):
        try:
            content, checksum = _get(session, url), _get(session, f"{url}.sha1")
        except requests.RequestException as error:
            missing = error.response is not None and error.response.status_code == requests.codes.not_found
            if missing or attempt == TRIES - 1:
                raise
        else:
            if hashlib.sha1(content, usedforsecurity=False).hexdigest().encode() == checksum.strip()[:40]:
                return content
        time.sleep(_PAUSE_S * 2**attempt)
    raise requests.RequestException(f"{url} does not have the checksum it is published with")


def _get(session: requests.Session, url: str) -> bytes:
    answer = session.get(url, timeout=_TIMEOUT_S)
    answer.raise_for_status()
    return answer.content


def _write_whole(path: Path, content: bytes) -> None:
    """Create a file atomically: two stacks may download at the same time, and either may be killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=".staged-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(staged, path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise


def add_to_list(coordinates: list[str]) -> None:
    """Add the jars of coordinates to the list, as they are in the user's cache or are downloaded now."""
    repository = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "core-tables" / "maven"
    lines = set(JARS.read_text("utf-8").splitlines()) if JARS.exists() else set()
    for jar in _resolve(repository, coordinates, print):
        lines.add(f"{_sha256(jar)}  {jar.relative_to(repository).as_posix()}")
    JARS.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.split()[1])), "utf-8")


if __name__ == "__main__":
    _, *coordinates_given = sys.argv
    add_to_list(coordinates_given)
