"""The writer schemas that are registered for the lanes of a topic (contract, section 2, "Schemas").

A record whose schema is not registered is refused, and that outcome stays. So nothing is registered below what is
folded, and the epochs of lanes that may be folded rise with it: the schemas that a worker has in memory are true while the
guard of its batches holds, as its states are.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch, run
from core_tables.projection.postgres.keys import Registration
from core_tables.schemas.identity import MAX_LANES
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.wire import WRITER_FINGERPRINT, known_fingerprints

Offsets = Mapping[int, int]
# Where the first offset of a schema is from. `unknown`: the log holds records, so that it is put at the beginning.
Since = Literal["beginning", "end", "copy", "unknown"]
_ALL: Final = range(MAX_LANES)


class RegisteredSchema(NamedTuple):
    """A row of os_core.registered_schemas; the fingerprint has 16 hexadecimal digits, in the order of the bytes on the wire."""

    lane: int
    fingerprint: str
    first_offset: int
    registered_at: datetime


class NewSchema(NamedTuple):
    """A schema that was registered, for how many lanes, and since when."""

    fingerprint: str
    since: Since
    lanes: int


class _HeldLane(NamedTuple):
    lane: int
    applied: int


def registered_schemas(connection: Connection, lanes: range = _ALL) -> list[RegisteredSchema]:
    """What is registered for lanes, the oldest first. Raises UnavailableError or SetupError."""
    with translated(), connection.transaction():
        return fetch(connection, RegisteredSchema, "load_schemas", lanes.start, lanes.stop - 1)


def check_registered(lane: int, fingerprints: Collection[str]) -> None:
    """Check that a lane has the schema that this release writes with. Raises SetupError."""
    if WRITER_FINGERPRINT not in fingerprints:
        raise SetupError(
            f"the writer schema {WRITER_FINGERPRINT} of this release is not registered for lane {lane}; run `core-tables init` "
            "of this release (if the database was restored, with --schemas and a copy of the registrations)",
            "database",
        )


def register_schemas(
    connection: Connection,
    lanes: Collection[int],
    log_ends: Callable[[], Offsets],
    copy: Sequence[Registration] = (),
) -> list[NewSchema]:
    """Register for lanes of a topic what this release, the rest of the ledger, or a copy knows, and they do not have.

    `log_ends` gives the ends of the logs, by lane. Raises SetupError if the copy contradicts what is registered or folded.
    """
    with translated(), connection.transaction():
        if not copy and _are_complete(registered_schemas(connection), lanes):
            return []
        applied = {row.lane: row.applied for row in fetch(connection, _HeldLane, "lock_lanes", sorted(lanes))}
        known = registered_schemas(connection)
        fingerprints = list(dict.fromkeys([*_fingerprints(known), *known_fingerprints(), *_fingerprints(copy)]))
        present = {(row.lane, row.fingerprint): row.first_offset for row in known if row.lane in lanes}
        # Asked while the lanes are held: whatever was decided, even in a commit that a failover lost, lies below these ends.
        ends = log_ends() if present or len(fingerprints) > 1 else dict.fromkeys(lanes, 0)
        added = missing_registrations(fingerprints, present, applied, ends, copy)
        new = [registration for registration, _ in added]
        if new:
            run(connection, "insert_schemas", new)
        folded = sorted({row.lane for row in new}.intersection(lane for lane, _ in present))
        if folded:
            run(connection, "raise_epochs", folded)
    return [
        NewSchema(*what, lanes=count)
        for what, count in Counter((new.fingerprint, since) for new, since in added).items()
    ]


def _are_complete(known: Sequence[RegisteredSchema], lanes: Collection[int]) -> bool:
    """Whether each lane has every schema that this release or the ledger knows."""
    fingerprints = {*_fingerprints(known), *known_fingerprints()}
    return sum(row.lane in lanes for row in known) == len(lanes) * len(fingerprints)


def _fingerprints(rows: Sequence[RegisteredSchema] | Sequence[Registration]) -> list[str]:
    return [row.fingerprint for row in rows]


def missing_registrations(
    fingerprints: Sequence[str],
    present: Mapping[tuple[int, str], int],
    applied: Offsets,
    ends: Offsets,
    copy: Sequence[Registration] = (),
) -> list[tuple[Registration, Since]]:
    """What to register for the lanes of `applied`, each with where its offset is from; `fingerprints` are the oldest first.

    A schema begins where the copy has it; without a copy, at the beginning of the log of a lane that has no schema yet, and at
    the end of any other. Raises SetupError.
    """
    copied = {(row.lane, row.fingerprint): row.first_offset for row in copy}
    for (lane, fingerprint), offset in copied.items():
        _check_copied(lane, fingerprint, offset, present.get((lane, fingerprint)), applied.get(lane))
    begun = {lane for lane, _ in present}
    found: list[tuple[Registration, Since]] = []
    for fingerprint in fingerprints:
        for lane in sorted(applied):
            copied_offset = copied.get((lane, fingerprint))
            if (lane, fingerprint) in present:
                continue
            if copied_offset is not None:
                found.append((Registration(lane, fingerprint, copied_offset), "copy"))
            elif copy or lane in begun:
                found.append((Registration(lane, fingerprint, max(ends[lane], applied[lane])), "end"))
            else:
                known = fingerprint == fingerprints[0] or ends[lane] == 0
                found.append((Registration(lane, fingerprint, 0), "beginning" if known else "unknown"))
    return found


def _check_copied(lane: int, fingerprint: str, offset: int, present: int | None, applied: int | None) -> None:
    if applied is None:
        raise SetupError(
            f"the copy of the registrations has lane {lane}, which is not of this topic; check CORE_TABLES_TOPIC",
            "database",
        )
    if present is not None and present != offset:
        raise SetupError(
            f"the copy registers {fingerprint} for lane {lane} from offset {offset} on, but the database from {present} on; "
            "give the copy to the `core-tables init` that creates the tables: begin with an empty database",
            "database",
        )
    if present is None and offset < applied:
        raise SetupError(
            f"the copy registers {fingerprint} for lane {lane} from offset {offset} on, but {applied} records are folded "
            "without it; begin with an empty database, or an older copy of it, and `core-tables init`",
            "database",
        )
