"""`doctor`: whether what Core Tables needs is there and as it should be, a line for each thing."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Any, Final, Literal, NamedTuple

import click
import redis
from confluent_kafka import KafkaException

from core_tables.cli import output, wiring
from core_tables.cli.certificate_check import look_at_certificates
from core_tables.cli.formats import Format, Listing, screen_width
from core_tables.cli.layout import record_lines
from core_tables.cli.options import format_option
from core_tables.kafka.clients import admin_client
from core_tables.kafka.errors import translate_kafka
from core_tables.kafka.group import describe_group
from core_tables.kafka.reported import reported
from core_tables.kafka.rights import Program, check_rights, rights_of
from core_tables.kafka.topics import check_topics, describe_topics
from core_tables.projection.cache.pending_cache import connect_cache
from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.lanes import KnownStop, lane_stops, ledger_topics, only_these_lanes
from core_tables.projection.postgres.login import login_of
from core_tables.projection.postgres.migrate import check_database
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.settings.environment import Settings, misspelt_variables
from core_tables.settings.lane_map import check_groups

CHECK_S: Final = 4.0  # for each line
_LEAST_POSTGRES: Final = 17
_LEAST_REDIS: Final = 7
_CLOCKS_APART_S: Final = 1.0
_ROLES: Final = ("worker", "reader", "operator", "scheduler")
_ANY: Final = ("operator", "worker", "reader")
_WITH_RIGHTS: Final[Sequence[Program]] = ("worker", "operator")


class State(StrEnum):
    """What was found: all is well, something to know, something that does not work, or nothing to look at."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """A line: what was looked at, what was found, and what to do about it."""

    check: str
    state: State
    what: str


class _Check(NamedTuple):
    """What is looked at, which server is asked, how, and which checks must have gone well before.

    `look` raises CoreTablesError or KafkaException for what is wrong.
    """

    name: str
    asked: Literal["kafka", "postgres", "redis"]
    look: Callable[[Settings], tuple[State, str]]
    needs: tuple[str, ...] = ()


@click.command(epilog=output.EXIT_CODES)
@format_option
def doctor(form: Format) -> None:
    """Check certificates, connections, versions, rights, topics, tables and clocks.

    Each line says ok, or what is wrong and what to do about it; none takes longer than some seconds. It changes nothing.
    Exits with the code of the first thing that is wrong.
    """
    settings = Settings()
    listing = Listing("checks", form)
    code = output.EXIT_OK
    for finding, error in findings(settings):
        if form is Format.TABLE:
            for line in record_lines([(f"{finding.state:<7}  {finding.check:<19}", [finding.what])], screen_width()):
                output.out.print(line, markup=False)
        else:
            listing.add([finding._asdict()])
        output.flush()
        if error is not None:
            code = code or output.exit_code(error)
    sys.exit(code)


def findings(settings: Settings) -> Iterator[tuple[Finding, CoreTablesError | None]]:
    """What each check finds, as it is found; with the error if something is wrong."""
    checks = (
        _Check("settings", "postgres", _settings),
        _Check("certificates", "kafka", _certificates),
        _Check("Kafka", "kafka", _kafka),
        *(
            _Check(f"Postgres, {role}{database.place}", "postgres", partial(_login, database, role))
            for database in settings.databases()
            for role in _ROLES
        ),
        *(
            _Check(
                f"tables{each.place}", "postgres", partial(_tables, settings, each), (f"Postgres, worker{each.place}",)
            )
            for each in settings.databases()
        ),
        _Check("clocks", "postgres", _clocks, ("Postgres",)),
        _Check("topics", "kafka", _topics, ("Kafka", "Postgres")),
        _Check("rights on Kafka", "kafka", _rights, ("Kafka",)),
        _Check("cache", "redis", _cache, ("Postgres",)),
        _Check("workers", "kafka", _workers, ("Kafka", "Postgres")),
    )
    well: set[str] = set()
    for check in checks:
        lacking = [name for name in check.needs if name not in well]
        if lacking:
            yield Finding(check.name, State.SKIPPED, f"needs {' and '.join(lacking)}, see above"), None
            continue
        try:
            state, what = _answered(check, settings)
        except KafkaException as failure:
            error = translate_kafka(failure)
            yield Finding(check.name, State.WRONG, output.describe(error)), error
        except CoreTablesError as error:
            yield Finding(check.name, State.WRONG, output.describe(error)), error
        else:
            if state is State.OK:
                well |= {check.name, *check.name.split(", ")}
            yield Finding(check.name, state, what), None


def _answered(check: _Check, settings: Settings) -> tuple[State, str]:
    """What a check finds within CHECK_S; it runs in a thread of its own, since not every client knows a deadline."""
    found: list[tuple[State, str]] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            found.append(check.look(settings))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=look, name="core-tables doctor", daemon=True)
    thread.start()
    thread.join(CHECK_S)
    for error in failed:
        raise error
    for answer in found:
        return answer
    report = reported() if check.asked == "kafka" else None
    why = "" if report is None else f" ({report.str()})"
    raise UnavailableError(
        check.asked,
        f"no answer within {CHECK_S:.0f} s{why}; see that the server runs, that nothing between here and there drops connections, "
        "and that `core-tables config` shows its address",
    )


def _settings(settings: Settings) -> tuple[State, str]:
    unknown = misspelt_variables()
    if unknown:
        return State.NOTE, "; ".join(
            f"{name} is not a setting, and is ignored: {advice}" for name, advice in unknown.items()
        )
    return State.OK, f"{len(settings.model_fields_set)} from the environment; `core-tables config` shows them"


def _certificates(settings: Settings) -> tuple[State, str]:
    state, what = look_at_certificates(settings)
    return State(state), what


def _kafka(settings: Settings) -> tuple[State, str]:
    cluster = describe_topics(admin_client(settings.kafka_settings()), [])
    return State.OK, f"cluster {cluster.cluster_id}, {cluster.brokers} broker{'s' if cluster.brokers > 1 else ''}"


def _login(database: Settings, role: str, _settings: Settings) -> tuple[State, str]:
    try:
        dsn = getattr(database, role)()
    except SetupError:
        return State.SKIPPED, f"CORE_TABLES_{role.upper()}_DSN is not set here, nor is there a local stack"
    with closing(connect(dsn, name="core-tables doctor")) as connection:
        found = login_of(connection, f"core_tables_{role}")
    if found.major < _LEAST_POSTGRES:
        raise SetupError(
            f"Postgres {found.version} is too old; upgrade it to {_LEAST_POSTGRES} or newer, or set another address",
            "database",
        )
    if not found.is_member:
        raise SetupError(
            f"permission denied: {found.name} is not a member of core_tables_{role}; run `core-tables init`, then "
            f"`grant core_tables_{role} to {found.name}`, or set CORE_TABLES_{role.upper()}_DSN to another login",
            "permission",
        )
    return State.OK, f"{found.name}, Postgres {found.version}"


def _tables(settings: Settings, database: Settings, _: Settings) -> tuple[State, str]:
    with closing(connect(database.worker, name="core-tables doctor")) as connection:
        check_database(connection)
        topic = wiring.registered_topic(settings, connection)
        if database.lanes is not None:
            check_groups(settings.lane_groups(), ledger_topics(only_these_lanes(connection, database.lanes)))
        lanes = len(wiring.positions(settings, connection))
    return State.OK, f"all migrations of this release; {lanes} lanes of {topic.topic}"


def _clocks(settings: Settings) -> tuple[State, str]:
    with _connected(settings) as connection:
        before = time.time_ns()
        found = login_of(connection, "core_tables_operator")
        after = time.time_ns()
    apart = ((before + after) / 2 - found.time_us * 1000) / 1e9
    if abs(apart) > _CLOCKS_APART_S:
        return State.NOTE, (
            f"this machine is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} Postgres; see that both follow the same "
            "time servers, since `now` is this machine's time"
        )
    return State.OK, f"this machine and Postgres are less than {_CLOCKS_APART_S:.0f} s apart"


def _topics(settings: Settings) -> tuple[State, str]:
    with _connected(settings) as connection:
        topic = wiring.registered_topic(settings, connection)
    check_topics(describe_topics(admin_client(settings.kafka_settings()), [topic.topic, topic.audit_topic]), topic)
    return State.OK, f"{topic.topic} and {topic.audit_topic} are those of the database, and keep their records"


def _rights(settings: Settings) -> tuple[State, str]:
    """Those of a worker; in the monitor's pod, which has no worker's login, those of an operator."""
    for program in _WITH_RIGHTS:
        with contextlib.suppress(SetupError):
            getattr(settings.databases()[0], program)()
            break
    else:
        return State.SKIPPED, "the login of no worker and of no operator is set here"
    kafka = settings.kafka_settings()
    check_rights(admin_client(kafka), rights_of(program, settings.topic, settings.audit_topic, kafka.group_id))
    return State.OK, f"those of the {program}, as far as the broker says"


def _cache(settings: Settings) -> tuple[State, str]:
    url = settings.current_cache()
    if url is None:
        return State.SKIPPED, "none is set; pending lists come from Postgres"
    server: dict[str, Any] = {}
    try:
        with closing(connect_cache(url)) as client, contextlib.suppress(redis.exceptions.NoPermissionError):
            server = client.info("server")  # the least rights do not have it
    except redis.RedisError as error:
        return State.NOTE, (
            f"does not answer, so pending lists come from Postgres ({error}); see that it runs, and CORE_TABLES_REDIS_URL"
        )
    version = str(server.get("valkey_version") or server.get("redis_version") or "")
    name = f"{'Valkey' if 'valkey_version' in server else 'Redis'} {version or '(no right to see its version)'}"
    if version and int(version.partition(".")[0]) < _LEAST_REDIS:
        return (
            State.NOTE,
            f"{name} is too old, so pending lists come from Postgres; use {_LEAST_REDIS} or newer",
        )
    with _connected(settings) as connection:
        topic = wiring.registered_topic(settings, connection)
        cache = wiring.cache(settings, connection)
        if cache is not None:
            cache.read_list(topic.first_lane, "")
            if cache.failed is not None:
                return (
                    State.NOTE,
                    f"{name} does not let pending lists be read ({cache.failed}); see its rights",
                )
    return State.OK, name


def _workers(settings: Settings) -> tuple[State, str]:
    stops: list[KnownStop] = []
    for database in settings.databases():
        with _connected(database) as connection:
            stops += lane_stops(connection)
            topic = wiring.registered_topic(settings, connection)
    if stops:
        lanes = ", ".join(str(stop.lane) for stop in stops)
        return State.NOTE, f"stopped lanes: {lanes}; `core-tables status` says why"
    group = describe_group(admin_client(settings.kafka_settings()), settings.group_id, topic.topic)
    if group is None or not group.owners:
        return State.NOTE, "none is running, so nothing is folded; start `core-tables worker`"
    workers = len(set(group.owners.values()))
    return State.OK, f"{workers} running, with {len(group.owners)} of {topic.partitions} lanes"


def _connected(settings: Settings) -> closing[Connection]:
    """A connection as any role that has one here; each may read what these checks ask for."""
    databases = settings.databases()
    for database, role in product(databases, _ANY):
        with contextlib.suppress(CoreTablesError):
            return closing(connect(getattr(database, role)(), name="core-tables doctor"))
    return closing(connect(databases[0].worker, name="core-tables doctor"))
