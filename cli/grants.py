"""`grants`: the commands that give each program the least rights on Kafka, Postgres and Redis. Nothing is executed."""

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Final, NoReturn

import click
from psycopg.conninfo import conninfo_to_dict

from core_tables.cli import output
from core_tables.kafka.rights import RIGHTS, Right, rights_of
from core_tables.projection.cache.logins import CACHE_RIGHTS
from core_tables.settings.environment import Settings

# The login that a program has unless another one is given. In Postgres, `init` creates a role of this name for some.
DEFAULT_LOGIN: Final = "core_tables_{program}"
ROLES: Final = ("worker", "reader", "operator", "scheduler")
_ON_KAFKA: Final = ("producer", "worker", "reader", "operator", "administrator", "keda")
_ON_REDIS: Final = ("worker", "filler", "operator")
_OPTIONS: Final[Mapping[str, str]] = {
    "topic": "--topic",
    "consumer group": "--group",
    "transactional id": "--transactional-id",
}

Login = tuple[str, str]  # the program, and the name that it logs in with


def _login_option(programs: Collection[str]) -> click.Option:
    return click.Option(
        ["--login", "logins"],
        multiple=True,
        metavar="PROGRAM=NAME",
        help=f"A program and its login, for these alone; repeatable. PROGRAM: {', '.join(programs)}.",
        callback=lambda _context, _option, given: _logins(given, programs),
    )


def _logins(given: Iterable[str], programs: Collection[str]) -> list[Login]:
    logins = []
    for text in given:
        program, _, name = text.partition("=")
        if program not in programs or not name:
            raise click.BadParameter(f"PROGRAM=NAME was expected, with one of {', '.join(programs)}; not {text}")
        logins.append((program, name))
    return logins


def _with_defaults(logins: Sequence[Login], programs: Iterable[str]) -> list[Login]:
    return list(logins) or [(program, DEFAULT_LOGIN.format(program=program)) for program in programs]


@click.group(epilog=output.EXIT_CODES)
def grants() -> None:
    """Print the commands that give each program the least rights.

    The commands are for the topics and the consumer group of the settings in use. Nothing is executed, and no server is
    needed. No password is printed: give each login its own.
    """


@grants.command(params=[_login_option(RIGHTS)])
def kafka(logins: Sequence[Login]) -> None:
    """Print the ACLs of Kafka, as a shell script.

    \b
    core-tables grants kafka | sh -s -- --bootstrap-server HOST:PORT

    The options, such as --command-config, are passed to kafka-acls, or to the program that the variable KAFKA_ACLS names.
    The name of a client certificate is its subject: --login worker=CN=worker.
    """
    settings = Settings()
    _print("set -eu")
    for program, login in _with_defaults(logins, _ON_KAFKA):
        _print(f"# {program}")
        for name in RIGHTS:
            if name == program:
                rights = rights_of(name, settings.topic, settings.audit_topic, settings.group_id)
                for words in _acls(f"User:{login}", rights):
                    _print(f'"${{KAFKA_ACLS:-kafka-acls}}" "$@" --add {shlex.join(words)}')


def _acls(principal: str, rights: Iterable[Right]) -> Iterator[list[str]]:
    """The arguments of kafka-acls that add some rights: as few calls as possible, since each takes a second."""
    operations: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        operation = right.operation.name.title().replace("_", "")
        operations.setdefault((right.kind, right.name), []).append(operation)
    together: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for (kind, name), allowed in operations.items():
        key = kind == "transactional id", tuple(allowed)
        together.setdefault(key, []).extend((_OPTIONS[kind], name))
    for (prefixed, allowed_by_all), resources in together.items():
        words = [word for operation in allowed_by_all for word in ("--operation", operation)]
        pattern = ["--resource-pattern-type", "prefixed"] if prefixed else []
        yield ["--allow-principal", principal, *words, *resources, *pattern]


@grants.command(params=[_login_option(CACHE_RIGHTS)])
def redis(logins: Sequence[Login]) -> None:
    """Print the ACL commands of Redis.

    \b
    core-tables grants redis | redis-cli

    A reader only reads lists, and a filler also stores those that it reads from Postgres. Give passwords with ACL SETUSER
    NAME >PASSWORD, and keep the rules with ACL SAVE or in the configuration file.
    """
    for program, login in _with_defaults(logins, _ON_REDIS):
        if not re.fullmatch(r"[^\s\"']+", login):
            raise click.BadParameter(f"a name of Redis holds no space and no quotation mark: {login}")
        _print(CACHE_RIGHTS[program].rule(login))


@grants.command(params=[_login_option([*ROLES, "administrator"])])
@click.option(
    "--tenant", "tenants", multiple=True, metavar="TENANT_ID", help="A tenant that the readers may read; repeatable."
)
@click.option("--any-tenant", is_flag=True, help="Let the readers read any tenant.")
def postgres(logins: Sequence[Login], tenants: Sequence[str], any_tenant: bool) -> None:
    """Print the grants of Postgres.

    \b
    core-tables grants postgres --login administrator=NAME | psql --no-psqlrc DSN
    core-tables init
    core-tables grants postgres | psql --no-psqlrc DSN

    A superuser runs the first, which creates the administrator and the database. The administrator runs `init` and the
    last, which lets no other login connect. `init` creates a login for each program; --login adds others.
    """
    administrators = [login for program, login in logins if program == "administrator"]
    if administrators and len(administrators) < len(logins):
        raise click.UsageError("the administrator comes before `init`, the others after it: call this once for each")
    _print(r"\set ON_ERROR_STOP on")
    if administrators:
        for login in administrators:
            _print_script("create_administrator", login=login, database=_database(Settings()))
        return
    _print_script("limit_connections")
    for program, login in logins:
        role = DEFAULT_LOGIN.format(program=program)
        if login == role:
            continue
        _print_script("create_login", login=login, role=role)
        if program == "reader":
            if not tenants and not any_tenant:
                _which_tenants()
            _print_reader(login, tenants)


def _print_reader(login: str, tenants: Sequence[str]) -> None:
    """Which tenants a reader's login reads; without tenants, any."""
    if not tenants:
        _print_script("read_any_tenant", login=login)
    for tenant in tenants:
        _print_script("read_tenant", login=login, tenant=tenant)
    if len(tenants) == 1:
        _print_script("start_with_tenant", login=login, tenant=tenants[0])


def _print_script(name: str, **values: str) -> None:
    """Print a script of psql/, and before it the values of its variables."""
    for variable, value in values.items():
        _print(rf"\set {variable} {_quoted(value)}")
    for line in (files("core_tables.cli") / "psql" / f"{name}.psql").read_text("utf-8").splitlines():
        _print(line)


def _quoted(value: str) -> str:
    """A text as psql reads the value of a variable."""
    if not value.isprintable():
        raise click.BadParameter(f"a name without control characters was expected: {value!r}")
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _which_tenants() -> NoReturn:
    raise click.UsageError(
        "a reader's login reads the tenants that it is given: say which with --tenant, or --any-tenant"
    )


def _database(settings: Settings) -> str:
    """The database of the settings, if they name one."""
    given = settings.postgres_dsn is not None or settings.postgres_dsn_file is not None
    return str(conninfo_to_dict(settings.admin()).get("dbname") or "core_tables") if given else "core_tables"


def _print(line: str) -> None:
    output.out.print(line, markup=False)
