"""`schemas`: the writer schemas that are registered, and a copy of them that `init` reads."""

from collections.abc import Sequence
from contextlib import closing
from typing import IO

import click
import msgspec

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list
from core_tables.cli.options import format_option
from core_tables.projection.postgres.keys import Registration
from core_tables.projection.postgres.lanes import ledger_topics
from core_tables.projection.postgres.registrations import registered_schemas
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import known_fingerprints
from core_tables.settings.environment import Settings


class CopiedSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a copy: a schema that is registered for a partition of a topic, from an offset on."""

    topic: str
    topic_id: str
    partition: int
    fingerprint: str
    first_offset: int


@click.command(epilog=output.EXIT_CODES)
@format_option
def schemas(form: Format) -> None:
    """Show the registered writer schemas.

    For each lane: the fingerprint of a schema that its records may have, and from which offset on. With --json, each line is
    one registration. Keep a copy of these lines outside of Postgres: if the database is ever lost or restored,
    `core-tables init --schemas FILE` needs it.
    """
    found, topics = [], []
    for database in Settings().databases():
        with closing(wiring.operator(database)) as connection:
            topics = ledger_topics(connection)
            found += [(_topic_of(row.lane, topics), row) for row in registered_schemas(connection)]
    if form is Format.JSON:
        for topic, row in found:
            copied = CopiedSchema(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partition=row.lane - topic.first_lane,
                fingerprint=row.fingerprint,
                first_offset=row.first_offset,
            )
            output.emit_json(msgspec.to_builtins(copied))
        return
    known = set(known_fingerprints())
    rows = [{**row._asdict(), "known": row.fingerprint in known, "topic": topic.topic} for topic, row in found]
    columns = ("lane", "fingerprint", "first_offset", "registered_at", "known")
    emit_list("registered schemas, known to this release or not", rows, form, columns if len(topics) == 1 else None)


def read_copy(file: IO[bytes]) -> list[CopiedSchema]:
    """The lines of a copy. Raises click.BadParameter with the number of a line that is none."""
    copied = []
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                copied.append(msgspec.json.decode(line, type=CopiedSchema))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                message = f"line {number} is not one that `core-tables schemas --json` prints: {error}"
                raise click.BadParameter(message, param_hint="--schemas") from error
    return copied


def registrations_of(copy: Sequence[CopiedSchema], topic: LedgerTopic) -> list[Registration]:
    """The registrations of a topic's lanes in a copy. Raises SetupError if there is none, though a copy is given."""
    found = [
        Registration(topic.first_lane + line.partition, line.fingerprint, line.first_offset)
        for line in copy
        if line.topic_id == topic.topic_id
    ]
    if copy and not found:
        raise SetupError(
            f"the copy of the registered schemas has none of the topic {topic.topic} (id {topic.topic_id}); "
            "check CORE_TABLES_TOPIC and the file",
            "database",
        )
    return found


def _topic_of(lane: int, topics: Sequence[LedgerTopic]) -> LedgerTopic:
    return next(topic for topic in reversed(topics) if topic.first_lane <= lane)
