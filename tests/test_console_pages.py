"""The pages of the console, on the real stack: what they show, what they hide, and what is not found."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from core_tables.cli.console import console_server
from core_tables.console.tail_page import ROWS_PER_SECOND
from core_tables.schemas.events import FieldSet
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.vocabulary import UNATTRIBUTED

from .builders import HOUR, START, correlation_of, make
from .consoles import RunningConsole, console_of, served
from .world import World, wait_until

pytestmark = pytest.mark.stack

SECRET = "a secret value"
OF_ACME = "tenant=acme&id=order-1"


@pytest.fixture(scope="module")
def ids(world: World) -> dict[str, int]:
    """A work order with a bit of everything, all folded and audited; the ids of its records by name."""
    events = {
        "created": make("WORK_ORDER_CREATED", idempotency_key="key-created"),
        "asked": make("FIELD_ASKED", created_at=START + 1, work_order_status="CLARIFY"),
        "set": make("FIELD_SET", created_at=START + 2, payload=FieldSet("date", SECRET), idempotency_key="key-set"),
        "replayed": make("FIELD_SET", created_at=START + 3, payload=FieldSet("date", "x"), idempotency_key="key-set"),
        "refused": make("WORK_ORDER_CREATED", created_at=START + 4, idempotency_key="key-again"),
        "lease": make("LEASE_ACQUIRED", created_at=START + 5, work_order_status="EXECUTING"),
        "step": make("STEP_STARTED", created_at=START + 6, work_order_status="EXECUTING"),
        "retry": make("STEP_RETRY_SCHEDULED", created_at=START + 7, work_order_status="EXECUTING"),
        "approval": make("EXTERNAL_APPROVAL_REQUESTED", created_at=START + 8, work_order_status="EXECUTING"),
        "other": make("WORK_ORDER_CREATED", tenant_id="umbrella", work_order_id="their-order"),
    }
    receipts = dict(zip(events, world.append(*events.values()), strict=True))
    stray = world.produce(b"acme", b"not avro at all <b>", (partition_of(b"acme", 12) + 1) % 12)
    assert stray == 0 or stray > 0
    with world.working():
        world.drain()
    outcomes = {name: receipt.outcome(10) for name, receipt in receipts.items()}
    assert isinstance(outcomes["refused"], Refused)
    assert isinstance(outcomes["replayed"], Replayed)
    assert isinstance(outcomes["approval"], Accepted)
    return {name: receipt.event_id(10) for name, receipt in receipts.items()}


@pytest.fixture(scope="module")
def console(world: World, ids: dict[str, int]) -> Iterator[RunningConsole]:
    assert ids
    with console_of(world) as running:
        yield running


@pytest.fixture(scope="module")
def client(console: RunningConsole) -> TestClient:
    return console.client()


class Text(HTMLParser):
    """The text of a page, with one space between words, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.inline: list[str] = []
        self._within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if data.strip() and self._within in ("script", "style"):
            self.inline.append(data)
        self.words += data.split()


def shown(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return " ".join(Text(answer.text).words)


def all_pages(ids: dict[str, int]) -> list[str]:
    return [
        "/lanes",
        "/find",
        "/find?tenant=acme&q=order-1",
        f"/work-order?{OF_ACME}",
        f"/work-order?{OF_ACME}&at={ids['retry']}&values=shown",
        "/refused",
        "/refused?tenant=acme",
        f"/refused/record?tenant=acme&id={ids['refused']}",
        f"/refused/record?tenant=acme&id={ids['refused']}&values=shown",
        "/waits",
        "/waits?tenant=acme&requester=ada",
        "/tail?tenant=acme&work_order=order-1",
        "/nowhere",
    ]


def test_no_page_has_a_script_or_a_style_of_its_own(client: TestClient, ids: dict[str, int]) -> None:
    """The policy would keep a browser from running it."""
    for address in all_pages(ids):
        answer = client.get(address)
        page = Text(answer.text)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';"), address
        assert page.inline == [], address
        names = {name for _tag, name, _value in page.attributes}
        assert not {name for name in names if name == "style" or name.startswith(("on", "hx-on", "hx-vars"))}, address
        addresses = [value or "" for _tag, name, value in page.attributes if name in ("src", "href", "action")]
        assert all(value.startswith(("/", "#")) for value in addresses), address


def test_every_page_has_landmarks_a_heading_and_labels(client: TestClient, ids: dict[str, int]) -> None:
    for address in all_pages(ids):
        html = client.get(address).text
        assert html.count("<h1>") == 1, address
        for landmark in (
            "<main id=",
            "<nav aria-label=",
            "<header",
            'class="skip" href="#content"',
            '<html lang="en">',
        ):
            assert landmark in html, address
        fields = re.findall(r'<input id="(\w+)"', html)
        assert all(f'<label for="{field}">' in html for field in fields), address
        assert html.count("<table") == html.count("<thead"), address
        assert re.findall(r'<th role="columnheader"(?! scope="col")', html) == [], address
        ids_of_elements = re.findall(r' id="([^"]+)"', html)
        assert len(ids_of_elements) == len(set(ids_of_elements)), address


def test_head_is_answered_like_get_without_a_body(client: TestClient, ids: dict[str, int]) -> None:
    for address in (*all_pages(ids)[:-1], "/tail/events?tenant=acme"):
        answer = client.head(address)
        assert (answer.status_code, answer.text) == (200, ""), address


def test_a_work_order_shows_its_records_with_those_that_were_refused_and_replayed(
    client: TestClient, ids: dict[str, int]
) -> None:
    text = shown(client, f"/work-order?{OF_ACME}")
    names = ("approval", "retry", "step", "lease", "refused", "replayed", "set", "asked", "created")
    places = [text.index(f" {ids[name]} ") for name in names]
    assert places == sorted(places), "newest first"
    assert f"a replay of {ids['set']} , but not the same request" in text
    assert "refused" in text
    assert str(correlation_of("acme", "order-1")) in text
    assert "request-1" in text


def test_a_work_order_as_of_an_event_is_as_it_was_then(client: TestClient, world: World, ids: dict[str, int]) -> None:
    for name in ("created", "asked", "set", "lease", "retry"):
        then = world.reads.current_at("acme", "order-1", ids[name])
        assert then is not None
        text = shown(client, f"/work-order?{OF_ACME}&at={ids[name]}")
        record = text.partition("Record Status ")[2]
        assert record.startswith(then.work_order_status), name
        assert f"Last event {ids[name]} " in record, name
    text = shown(client, f"/work-order?{OF_ACME}&at={ids['set']}")
    assert "date hidden asked 1×" in text
    assert "changed" in text
    assert "This record was refused, so it changed nothing." in shown(
        client, f"/work-order?{OF_ACME}&at={ids['refused']}"
    )
    assert "This record is a replay" in shown(client, f"/work-order?{OF_ACME}&at={ids['replayed']}")


def test_values_are_hidden_until_somebody_asks_and_the_log_says_who(
    client: TestClient, console: RunningConsole, ids: dict[str, int]
) -> None:
    addresses = [f"/work-order?{OF_ACME}{at}" for at in ("", f"&at={ids['set']}", f"&at={ids['created']}")]
    console.log.clear()
    for address in addresses:
        html = client.get(address).text
        assert SECRET not in html
        assert "Paris" not in html
    assert console.log == []
    assert SECRET in client.get(f"{addresses[0]}&values=shown").text
    assert SECRET in client.get(f"{addresses[1]}&values=shown").text
    assert [
        (line["event"], line["user"], line["work_order_id"], line["event_id"], line["diagnostic"])
        for line in console.log
    ] == [
        ("values_shown", "ada", "order-1", None, True),
        ("values_shown", "ada", "order-1", ids["set"], True),
    ]
    assert SECRET not in str(console.log)


def test_the_bytes_of_a_refused_record_are_shown_on_demand(
    client: TestClient, console: RunningConsole, ids: dict[str, int]
) -> None:
    listed = shown(client, "/refused?tenant=acme")
    assert str(ids["refused"]) in listed
    address = f"/refused/record?tenant=acme&id={ids['refused']}"
    console.log.clear()
    hidden = shown(client, address)
    assert "Paris" not in hidden
    assert "key-again" in hidden
    opened = shown(client, f"{address}&values=shown")
    assert '"city": "Paris"' in opened
    assert "00000 c3 01" in opened
    assert [line["event"] for line in console.log] == ["values_shown"]


def test_refused_records_without_a_tenant_are_found_and_shown_as_text(client: TestClient) -> None:
    address = f"/refused?tenant={UNATTRIBUTED}"
    (event_id,) = set(re.findall(r"/refused/record\?tenant=_unattributed&amp;id=(\d+)", client.get(address).text))
    page = client.get(f"/refused/record?tenant={UNATTRIBUTED}&id={event_id}&values=shown").text
    assert "not avro at all" in " ".join(Text(page).words).replace("not avro at al l", "not avro at all")
    assert "<b>" not in page


def test_refused_records_can_be_chosen_by_reason(client: TestClient, ids: dict[str, int]) -> None:
    reason = "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED"
    assert str(ids["refused"]) in shown(client, f"/refused?tenant=acme&reason={reason}")
    assert "None of these records has this reason." in shown(client, "/refused?tenant=acme&reason=LEASE_NOT_FOUND")
    assert str(ids["refused"]) not in shown(client, f"/refused?tenant=acme&before={ids['refused']}")


def test_an_id_of_another_tenant_is_not_found(client: TestClient, ids: dict[str, int]) -> None:
    for address in (
        "/work-order?tenant=umbrella&id=order-1",
        f"/work-order?tenant=umbrella&id=order-1&at={ids['set']}",
        f"/refused/record?tenant=umbrella&id={ids['refused']}",
        f"/refused/record?tenant=umbrella&id={ids['refused']}&values=shown",
        f"/refused/record?tenant=acme&id={ids['created']}&values=shown",
        "/work-order?tenant=acme&id=their-order",
        "/work-order?tenant=umbrella&id=their-order&at=1",
    ):
        assert "Not found" in shown(client, address, 404), address
    for asked in ("order-1", ids["set"], ids["refused"], ids["replayed"], correlation_of("acme", "order-1")):
        assert "Nothing of umbrella has this id or key." in shown(client, f"/find?tenant=umbrella&q={asked}")
    assert "Nothing of umbrella" in shown(client, "/find?tenant=umbrella&q=key-set&work_order=order-1")


def test_a_work_order_is_found_by_whatever_somebody_has(client: TestClient, ids: dict[str, int]) -> None:
    page = f"/work-order?{OF_ACME}".replace("&", "&amp;")
    for asked, address in (
        ("q=order-1", f'"{page}"'),
        (f"q={correlation_of('acme', 'order-1')}", f'"{page}"'),
        (f"q={ids['lease']}", f'"{page}&amp;at={ids["lease"]}"'),
        (f"q={ids['replayed']}", f'"{page}&amp;at={ids["set"]}"'),
        ("q=key-set&work_order=order-1", f'"{page}&amp;at={ids["set"]}"'),
        (f"q={ids['refused']}", f'"/refused/record?tenant=acme&amp;id={ids["refused"]}"'),
    ):
        assert f"<a href={address}" in client.get(f"/find?tenant=acme&{asked}").text, asked
    assert "Nothing of acme" in shown(client, f"/find?tenant=acme&q={10**60}")


def test_what_waits_is_shown_as_of_a_time(client: TestClient) -> None:
    before = shown(client, "/waits?tenant=acme&requester=ada&at=2023-11-14T22:13:20")
    assert "No retry is due." in before
    assert "Nothing is pending." in before
    after = shown(client, f"/waits?tenant=acme&at=2023-11-14T23:{13 + HOUR // HOUR:02}:20")
    assert "order-1 step-1 1" in after.partition("Due retries")[2]
    assert "owner-1" in after.partition("Expired leases")[2]
    assert "boss" in after.partition("Expired approvals")[2]
    assert "No retry is due." in shown(client, "/waits?tenant=umbrella")


def test_lanes_say_how_far_they_are_and_that_nobody_has_them(client: TestClient, world: World) -> None:
    text = shown(client, "/lanes")
    applied, _ = world.positions()[partition_of(b"acme", 12)]
    assert f"{partition_of(b'acme', 12)} unowned {applied} {applied} {applied} 0 0 s nobody" in text
    assert "no worker runs" in text
    assert "everything is folded" in text


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("/work-order?tenant=acme&id=order-1&at=x", "at is not an event id"),
        ("/refused/record?tenant=acme&id=-1", "id is not an event id"),
        ("/waits?tenant=acme&at=soon", "at is not a time"),
        ("/waits?tenant=" + "a" * 65, "tenant_id"),
        ("/find?tenant=a%00b&q=x", "tenant_id"),
    ],
)
def test_what_cannot_be_asked_is_a_bad_request_that_says_why(client: TestClient, address: str, why: str) -> None:
    assert why in shown(client, address, 400)


def rows(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The messages of a stream: each one's name and data."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_tail_shows_what_is_appended_and_continues_after_a_break(
    console: RunningConsole, world: World, ids: dict[str, int]
) -> None:
    with served(console) as address, httpx2.Client(base_url=address, timeout=60) as http, world.working():
        with http.stream("GET", "/tail/events?tenant=acme&work_order=order-1") as stream:
            messages = rows(stream.iter_lines())
            first = [next(messages) for _ in range(9)]
            assert [data["event_id"] for _, data in first] == [
                str(event_id) for event_id in sorted(list(ids.values())[:-1])
            ]
            assert [data["outcome"] for _, data in first].count("REFUSED") == 1
            assert SECRET not in str(first)
            world.append(make("FIELD_SET", tenant_id="umbrella"), make("FIELD_SET", work_order_id="order-2"))
            (receipt,) = world.append(make("FIELD_SET", created_at=START + 9))
            name, data = next(messages)
            assert (name, data["event_id"], data["outcome"]) == ("outcome", str(receipt.event_id(10)), "ACCEPTED")
        with http.stream("GET", "/tail/events?tenant=acme", headers={"last-event-id": str(ids["approval"])}) as stream:
            missed = rows(stream.iter_lines())
            assert [next(missed)[1]["work_order_id"] for _ in range(2)] == ["order-2", "order-1"]
        with http.stream("GET", "/tail/events", headers={"last-event-id": "12"}) as stream:
            assert next(rows(stream.iter_lines()))[0] == "gap"


def test_a_tail_shows_a_limited_number_of_rows_a_second_and_counts_the_others(
    console: RunningConsole, world: World
) -> None:
    many = 5 * ROWS_PER_SECOND
    with (
        served(console) as address,
        httpx2.Client(base_url=address, timeout=60) as http,
        http.stream("GET", "/tail/events?tenant=busy") as stream,
    ):
        messages = rows(stream.iter_lines())
        wait_until(lambda: console.feed.followers == 1, "the stream to begin")
        world.append(make("FIELD_SET", tenant_id="busy"))
        with world.working():
            assert next(messages)[0] == "outcome", "it follows"
        # One batch of a worker, so that they come at once.
        world.append(*(make("FIELD_SET", tenant_id="busy", turn_id=turn + 1) for turn in range(many)))
        counts = {"outcome": 0, "left_out": 0, "alive": 0}
        with world.working():
            while counts["outcome"] + counts["left_out"] < many:
                name, data = next(messages)
                counts[name] += data.get("rows", 1)
    assert counts["outcome"] + counts["left_out"] == many
    assert counts["left_out"] > 0


def test_a_tail_that_is_closed_is_forgotten(console: RunningConsole) -> None:
    with served(console) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as browser:
            browser.sendall(b"GET /tail/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: console.feed.followers == 1, "the stream to begin")
        wait_until(lambda: console.feed.followers == 0, "the stream to end")


def test_connections_are_taken_from_when_the_address_is_known() -> None:
    server, bound = console_server(None, "127.0.0.1", 0)
    with bound, socket.create_connection(bound.getsockname()):
        assert not server.started


def test_the_command_serves_until_it_is_asked_to_end(world: World, ids: dict[str, int]) -> None:
    command = [sys.executable, "-m", "core_tables.cli.main", "console", "--port", "0"]
    with subprocess.Popen(
        command,
        env={**world.environment(), "CORE_TABLES_LOG_LEVEL": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stderr is not None
            started = next(line for line in running.stderr if "console_started" in line)
            assert json.loads(started)["console"].endswith(f"-{running.pid}")
            assert "worker" not in json.loads(started)
            address = json.loads(started)["address"]
            assert httpx2.get(f"{address}/lanes").status_code == 200
            assert httpx2.get(f"{address}/lanes", headers={"host": "evil.example"}).status_code == 400
            assert httpx2.post(f"{address}/lanes").status_code == 405
            assert SECRET in httpx2.get(f"{address}/work-order?{OF_ACME}&at={ids['set']}&values=shown").text
            with httpx2.stream("GET", f"{address}/tail/events", timeout=60) as tail:
                assert tail.status_code == 200
                running.terminate()
                _, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert "Traceback" not in errors
    assert '"event": "values_shown"' in errors, "logged whatever the level is"
    assert "evil" not in errors
    assert SECRET not in errors
