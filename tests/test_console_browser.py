"""The console in a real Chromium, on the real stack: one journey with its scripts, one without, and the keyboard."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from core_tables.console.lanes_page import CAUSES
from core_tables.schemas.identity import partition_of

from .browsers import chromium, complaints_of, needs_chromium
from .builders import START, make, tenant_of_another_lane
from .consoles import RunningConsole, console_of, served
from .test_stopped_lanes import LATER, UNKNOWN
from .world import DEADLINE_S, World, wait_until

pytestmark = [pytest.mark.stack, needs_chromium]

ACME = partition_of(b"acme", 12)
STOPPED = tenant_of_another_lane(ACME)
expect.set_options(timeout=DEADLINE_S * 1000)


class Journey(NamedTuple):
    """A world whose worker runs, with a work order and a lane that stopped; where its console is."""

    world: World
    console: RunningConsole
    address: str
    ids: dict[str, str]


@pytest.fixture(scope="module")
def journey(world: World) -> Iterator[Journey]:
    world.register(LATER)
    events = {
        "created": make("WORK_ORDER_CREATED"),
        "asked": make("FIELD_ASKED", created_at=START + 1, work_order_status="CLARIFY"),
        "set": make("FIELD_SET", created_at=START + 2, work_order_status="CONFIRM"),
        "refused": make("WORK_ORDER_CREATED", created_at=START + 3),
    }
    receipts = dict(zip(events, world.append(*events.values()), strict=True))
    lane = partition_of(STOPPED.encode(), 12)
    world.produce(STOPPED.encode(), UNKNOWN, lane)
    with world.working() as running, console_of(world) as console, served(console) as address:
        wait_until(lambda: running.log_lines("lane_waits_for_release"), "the lane to stop")
        wait_until(lambda: world.rows("lane_stops"), "the stop to be kept")
        for receipt in receipts.values():
            receipt.outcome(DEADLINE_S)
        yield Journey(
            world, console, address, {name: str(receipt.event_id(DEADLINE_S)) for name, receipt in receipts.items()}
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def find_and_open(page: Page) -> None:
    page.get_by_role("link", name="Find", exact=True).click()
    page.get_by_label("Tenant").fill("acme")
    page.get_by_label("What you have").fill("order-1")
    page.get_by_label("What you have").press("Enter")
    page.get_by_role("main").get_by_role("link", name="order-1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("order-1")


def test_from_a_stopped_lane_to_a_work_order_to_a_refused_record_to_the_tail(
    journey: Journey, browser: Browser
) -> None:
    page = browser.new_page()
    complaints = complaints_of(page)
    page.goto(journey.address)

    stop = page.get_by_role("article")
    expect(stop).to_contain_text(f"Lane {partition_of(STOPPED.encode(), 12)}")
    (kept,) = journey.world.admin.execute("select sentence from os_core.lane_stops").fetchall()
    expect(stop).to_contain_text(kept[0])
    expect(stop).to_contain_text(CAUSES["schema"].step)
    expect(page).to_have_title("1 stopped · Lanes · Core Tables")

    find_and_open(page)
    page.evaluate("document.documentElement.dataset.same = 'yes'")
    page.locator(f"#at-{journey.ids['set']}").click()
    expect(page.get_by_role("heading", name=f"As of event {journey.ids['set']}")).to_be_visible()
    expect(page.locator("html[data-same]")).to_have_count(1)  # a part was replaced, not the page
    assert page.url.endswith(f"at={journey.ids['set']}")
    expect(page.get_by_role("status")).to_have_text(f"As of event {journey.ids['set']}")
    focused = page.evaluate("document.activeElement.id")
    assert focused == f"at-{journey.ids['set']}", "the keyboard is where it was"
    expect(page.get_by_text("2026-01-01")).to_have_count(0)
    page.get_by_role("link", name="Show values").click()
    expect(page.get_by_text('"2026-01-01"')).to_be_visible()
    expect(page.get_by_role("link", name="Hide values")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="As it is now")).to_be_visible()
    page.locator(f"#at-{journey.ids['refused']}").click()
    page.get_by_role("link", name="See the record").click()

    page.get_by_role("link", name="Show its bytes").click()
    expect(page.locator("pre.bytes").first).to_contain_text("00000  c3 01")
    assert [line["event"] for line in journey.console.log] == ["values_shown", "values_shown"]

    page.get_by_role("link", name="Tail").click()
    expect(page.locator("#connection")).to_have_text("following")
    expect(page.locator(f"tr[data-event='{journey.ids['created']}']")).to_be_visible()
    (receipt,) = journey.world.append(make("FIELD_SET", created_at=START + 4))
    appended = page.locator("#rows tr").first
    expect(appended).to_have_attribute("data-event", str(receipt.event_id(DEADLINE_S)))
    expect(appended).to_contain_text("accepted")
    page.get_by_role("button", name="Pause").click()
    (receipt,) = journey.world.append(make("FIELD_SET", created_at=START + 5))
    page.get_by_role("button", name="Continue (1 new)").click()
    expect(page.locator("#rows tr").first).to_have_attribute("data-event", str(receipt.event_id(DEADLINE_S)))

    assert complaints == []
    page.close()


def test_without_scripts_every_page_but_the_tail_works(journey: Journey, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(journey.address)
    expect(page.get_by_role("article")).to_contain_text("Next step")
    find_and_open(page)
    page.locator(f"#at-{journey.ids['set']}").click()
    expect(page.get_by_role("heading", name=f"As of event {journey.ids['set']}")).to_be_visible()
    page.get_by_role("link", name="Show values").click()
    expect(page.get_by_text('"2026-01-01"')).to_be_visible()
    page.get_by_role("link", name="Refused", exact=True).click()
    page.get_by_role("link", name=journey.ids["refused"]).click()
    page.get_by_role("link", name="Show its bytes").click()
    expect(page.locator("pre.bytes").first).to_contain_text("00000  c3 01")
    page.get_by_role("link", name="What waits").click()
    expect(page.get_by_text("No retry is due.")).to_be_visible()
    page.get_by_role("link", name="Tail").click()
    expect(page.get_by_text("The tail needs JavaScript")).to_be_visible()
    context.close()


def test_the_keyboard_reaches_the_content_first_and_nothing_is_wider_than_a_phone(
    journey: Journey, browser: Browser
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    complaints = complaints_of(page)
    page.goto(f"{journey.address}/work-order?tenant=acme&id=order-1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    for address in (
        "/lanes",
        "/find?tenant=acme&q=order-1",
        "/work-order?tenant=acme&id=order-1",
        "/refused?tenant=acme",
        f"/refused/record?tenant=acme&id={journey.ids['refused']}&values=shown",
        "/waits?tenant=acme&requester=ada",
        "/tail?tenant=acme",
    ):
        page.goto(journey.address + address)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, address
    assert complaints == []
    context.close()
