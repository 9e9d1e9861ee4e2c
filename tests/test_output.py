"""What the command prints: to a person without driving the terminal, to a program unchanged, and to a reader that may be gone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core_tables.cli import formats, output

ODD = ":on:a\x1b]8;;x\x07b\u202ec\x9bd\ne\u2028f\udcffg"
SHOWN = r":on:a\x1b]8;;x\x07b\u202ec\x9bd\ne\u2028f\udcffg"
# The command with a subcommand that prints as the others do: rows, a record, a line, an error, JSON.
PROGRAM = """
import sys
import click
from core_tables.cli import formats, output
from core_tables.cli.main import main
from core_tables.schemas.reasons import CoreTablesError

TEXT = sys.argv.pop(1).encode().decode("unicode_escape")

@main.command()
def rows():
    formats.emit_rows(TEXT, ("column",), [(TEXT,)] * 3000)

@main.command()
def all_forms():
    formats.emit_rows(TEXT, ("column",), [(TEXT,)])
    formats.emit_one("record", {"field": TEXT, "list": [TEXT]}, formats.Format.TABLE)
    output.out.print(TEXT, markup=False)
    output.say(TEXT)
    output.fail(CoreTablesError(TEXT))

@main.command("json")
def as_json():
    for _ in range(3000):
        output.emit_json({"text": TEXT})

main()
"""


def run(text: str, command: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    arguments = [sys.executable, "-c", PROGRAM, text.encode("unicode_escape").decode(), command]
    return subprocess.run(arguments, stderr=subprocess.PIPE, timeout=60, check=False, **options)


def test_what_drives_a_terminal_is_shown_as_an_escape() -> None:
    assert output.printable(ODD) == SHOWN
    assert output.printable("Zürich, 東京, שלום\t") == "Zürich, 東京, שלום\\t"


def test_a_text_of_a_record_is_escaped_in_every_form_that_a_person_reads() -> None:
    odd, shown = ODD.replace("\udcff", ""), SHOWN.replace(r"\udcff", "")
    done = run(odd, "all-forms", stdout=subprocess.PIPE)
    for printed in (done.stdout.decode(), done.stderr.decode()):
        assert not set(printed) & set(odd) - set("abcdefg]8;xno:\n")
    assert done.stdout.decode().count(shown) == 5, "title, cell, field, item of a list, and line"
    assert done.stderr.decode().splitlines() == [shown, f"error: {shown}"]


def test_json_holds_the_text_itself() -> None:
    odd = ODD.replace("\udcff", "")
    done = run(odd, "json", stdout=subprocess.PIPE)
    assert {json.loads(line)["text"] for line in done.stdout.split(b"\n")[:-1]} == {odd}


@pytest.mark.parametrize("command", ["rows", "json"])
def test_a_reader_that_has_ended_ends_the_command_as_other_tools_do(command: str) -> None:
    script = f'{sys.executable} -c "$PROGRAM" {"text" * 50} {command} | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script], env={"PROGRAM": PROGRAM}, capture_output=True, timeout=60, check=False
    )
    assert done.stdout.split()[-1] == b"141"
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("command", ["rows", "json"])
def test_a_disk_that_is_full_is_an_error_in_one_line(command: str) -> None:
    with open("/dev/full", "wb") as full:
        done = run("text", command, stdout=full)
    assert done.returncode == output.EXIT_MACHINE
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: standard output could not be written: No space left on device; ")


def test_an_encoding_without_a_character_shows_an_escape_and_json_stays_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = run("Zürich 東京", "all-forms", stdout=subprocess.PIPE)
    assert r"Zürich \u6771\u4eac" in done.stdout.decode("latin-1")
    assert b"Traceback" not in done.stderr
    done = run("Zürich 東京", "json", stdout=subprocess.PIPE)
    assert json.loads(done.stdout.splitlines()[0]) == {"text": "Zürich 東京"}


def test_rows_that_come_later_are_printed_below_the_columns_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    for form, lines in (
        (formats.Format.TABLE, ["events", "id  at", " 7  a", "80  b"]),
        (formats.Format.CSV, ["id,at,more", "7,a,", "80,b,[1]"]),
        (formats.Format.JSON, ['{"id":7,"at":"a","more":null}', '{"id":80,"at":"b","more":[1]}']),
    ):
        listing = formats.Listing("events", form, ("id", "at"))
        listing.add([{"id": 7, "at": "a", "more": None}])
        listing.add([])
        listing.add([{"id": 80, "at": "b", "more": [1]}])
        assert capsys.readouterr().out.splitlines() == lines
