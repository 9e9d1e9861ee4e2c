"""What `grants` prints is what the documentation says, in the forms of the tools that run it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core_tables.cli import output
from core_tables.cli.main import main
from core_tables.kafka.rights import RIGHTS, Right
from core_tables.projection.cache.logins import CACHE_RIGHTS

PAGE = (Path(__file__).parent.parent / "docs" / "CONFIGURATION.md").read_text("utf-8")
PLACES = {"topic": "", "consumer group": "the group", "transactional id": "the transactional ids that begin with"}


def grants(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, ["grants", *arguments], prog_name="core-tables")


def table_below(heading: str) -> Mapping[str, str]:
    """By the name in the first column, the second column of the table in a section."""
    section = re.split("\n##+ ", PAGE.partition(f"\n## {heading}\n")[2])[0]
    rows = re.findall(r"^\| `([\w-]+)`[^|]*\| (.+) \|$", section, re.MULTILINE)
    return {name: rights.replace(r"\|", "|") for name, rights in rows}


def listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def as_documented(rights: Iterable[Right]) -> str:
    """Rights as the documentation writes them: together what is allowed on one thing, and things with the same rights."""
    operations: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        operations.setdefault((right.kind, right.name), []).append(right.operation.name)
    things: dict[tuple[str, str], list[str]] = {}
    for (kind, name), allowed in operations.items():
        things.setdefault((kind, listed(allowed)), []).append(name if name in ("L", "A", "G") else f"`{name}`")
    texts = []
    for (kind, allowed_on_all), names in things.items():
        place = PLACES[kind] + ("s" if names[1:] and kind == "consumer group" else "")
        texts.append(f"{allowed_on_all} on {place} {listed(names)}".replace("  ", " "))
    return "; ".join(texts)


def test_the_documented_rights_on_kafka_are_those_of_the_code() -> None:
    assert table_below("Kafka permissions") == {program: as_documented(rights) for program, rights in RIGHTS.items()}


def test_the_documented_rights_on_redis_are_those_of_the_code() -> None:
    expected = {
        program: f"`{rights.rule('x').removeprefix('ACL SETUSER x ')}`" for program, rights in CACHE_RIGHTS.items()
    }
    assert table_below("Logins of Redis") == expected


def test_the_acls_are_for_the_topics_and_the_group_of_the_settings() -> None:
    names = {"CORE_TABLES_TOPIC": "l 1", "CORE_TABLES_AUDIT_TOPIC": "a", "CORE_TABLES_GROUP_ID": "g"}
    done = grants("kafka", "--login", "worker=CN=one,O=two three", **names)
    begin = '"${KAFKA_ACLS:-kafka-acls}" "$@" --add --allow-principal \'User:CN=one,O=two three\' --operation '
    assert done.stdout.splitlines() == [
        "set -eu",
        "# worker",
        f"{begin}Read --operation DescribeConfigs --topic 'l 1'",
        f"{begin}Read --operation Write --operation DescribeConfigs --topic a",
        f"{begin}Read --group g --group g.audit-tail",
        f"{begin}Write --transactional-id a. --resource-pattern-type prefixed",
    ]


@pytest.mark.parametrize("service", ["kafka", "postgres", "redis"])
def test_a_program_that_is_unknown_and_a_login_without_a_name_are_refused(service: str) -> None:
    for wrong in ("postman=a", "worker=", "worker"):
        done = grants(service, "--login", wrong)
        assert done.exit_code == output.EXIT_USAGE
        assert "PROGRAM=NAME was expected" in done.stderr


def test_a_name_that_the_tool_could_not_read_is_refused_or_quoted() -> None:
    assert grants("redis", "--login", "worker=a b").exit_code == output.EXIT_USAGE
    text = grants("postgres", "--login", r"worker=it's \n").stdout
    assert "\\set login 'it''s \\\\n'\n" in text
    assert grants("postgres", "--login", "worker=a\nb").exit_code == output.EXIT_USAGE


def test_a_reader_of_its_own_reads_the_tenants_that_are_named_and_no_others() -> None:
    assert "--tenant, or --any-tenant" in grants("postgres", "--login", "reader=acme_reports").stderr
    two = grants("postgres", "--login", "reader=r", "--tenant", "acme", "--tenant", "zeta").stdout
    assert re.findall(r"set tenant (.+)", two) == ["'acme'", "'zeta'"]
    assert two.count("insert into os_core.reader_tenants") == 2
    assert "core_tables.tenant_id" not in two
    one = grants("postgres", "--login", "reader=r", "--tenant", "acme").stdout
    assert """alter role :"login" set core_tables.tenant_id = :'tenant';""" in one
    assert "(:'login', null)" in grants("postgres", "--login", "reader=r", "--any-tenant").stdout


def test_the_administrator_owns_the_database_of_the_settings() -> None:
    secret = "postgresql://ada:hunter2@db/orders"
    done = grants("postgres", "--login", "administrator=dba", CORE_TABLES_POSTGRES_DSN=secret)
    assert "\\set login 'dba'\n\\set database 'orders'\n" in done.stdout
    assert "hunter2" not in done.stdout
    both = grants("postgres", "--login", "administrator=dba", "--login", "worker=w")
    assert both.exit_code == output.EXIT_USAGE
