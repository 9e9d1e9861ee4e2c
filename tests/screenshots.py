"""`make screenshots`: pictures of the console for the README and the documentation, of the demo's day and one lane that stopped.

What could differ from run to run (process ids, host names, the time of the stop) is fixed, so that a picture changes only if a
page does. The fonts are the machine's: those in docs/console/ were made with Debian's fonts-inter and fonts-jetbrains-mono.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Final, NamedTuple
from unittest.mock import patch

from playwright.sync_api import Browser, Page

from core_tables.cli import demo, worker_wiring
from core_tables.cli.append import Summary, append_lines
from core_tables.deploy import stack as local_stack
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Refused

from .browsers import CHROMIUM, NO_CHROMIUM, chromium
from .consoles import console_of, served
from .test_stopped_lanes import LATER, UNKNOWN
from .world import DEADLINE_S, World, wait_until

INTO: Final = Path(__file__).parent.parent / "docs" / "console"
MAX_BYTES: Final = 150_000
TENANT: Final = demo.TENANT
LANE: Final = partition_of(TENANT.encode(), 12)
STOPPED: Final = 7
FIXED_STOP: Final = (
    "update os_core.lane_stops set worker = 'core-tables-worker-fold-2-1', since = '2026-01-15 18:04:11+00'"
)


class Shot(NamedTuple):
    """A picture: its name, the page, and how it is looked at."""

    name: str
    address: str
    dark: bool = False
    width: int = 1200
    height: int = 760


def shots(ids: dict[str, int]) -> list[Shot]:
    """The pictures."""
    order = f"/work-order?tenant={TENANT}&id=trip-1001"
    waits = f"/waits?tenant={TENANT}&requester=ada&at=2026-01-15T18:00"
    return [
        Shot("lanes", "/lanes"),
        Shot("lanes-dark", "/lanes", dark=True),
        Shot("work-order", f"{order}&at={ids['failed']}", height=860),
        Shot("work-order-dark", f"{order}&at={ids['failed']}", dark=True, height=860),
        Shot("work-order-narrow", f"{order}&at={ids['failed']}", width=390, height=844),
        Shot("refused", f"/refused/record?tenant={TENANT}&id={ids['refused']}&values=shown", height=1170),
        Shot("waits", waits, height=980),
        Shot("tail-dark", f"/tail?tenant={TENANT}", dark=True),
    ]


@contextlib.contextmanager
def demo_world() -> Iterator[tuple[World, dict[str, int]]]:
    """The demo's day on a stack of its own, under the usual names of the topics, with a lane that has stopped."""
    with tempfile.TemporaryDirectory() as folder:
        stack = local_stack.up(Path(folder), print)
        try:
            world = World(stack, "console")
            world.settings = world.settings.model_copy(
                update={"topic": "core-tables.ledger.v1", "audit_topic": "core-tables.audit.v1"}
            )
            world.init()
            wait_until(world.answers, "the broker to lead the topics")
            world.register(LATER)
            with (
                patch.object(worker_wiring, "worker_client_id", lambda: "core-tables-worker-fold-1-1"),
                world.working(),
            ):
                ids = _append_the_day(world)
                world.produce(b"", UNKNOWN, STOPPED)
                wait_until(lambda: world.rows("lane_stops"), "the lane to stop")
                world.admin.execute(FIXED_STOP)
                with _minutes_later(world):
                    yield world, ids
        finally:
            local_stack.down(Path(folder), print, wipe=True)


@contextlib.contextmanager
def _minutes_later(world: World) -> Iterator[None]:
    """Let the status of the lanes see a clock that is four minutes after the record that waits."""
    with world.topic(world.settings.topic) as reader:
        waiting = reader.first(STOPPED, 0)
    assert waiting is not None
    _, written_at = waiting.timestamp()
    with patch("core_tables.consumer.lane_status.time", SimpleNamespace(time=lambda: written_at / 1000 + 250)):
        yield


def _append_the_day(world: World) -> dict[str, int]:
    summary = Summary()
    append_lines(world.ledger, str(files("core_tables.cli") / "demo_data" / "day.jsonl"), summary, DEADLINE_S)
    assert not summary.pending
    refused = world.ledger.cancel(TENANT, "trip-1001", 900, "too-late", demo.EVENING)
    assert isinstance(refused.outcome(DEADLINE_S), Refused)
    return {"failed": event_id_at(LANE, 8), "refused": refused.event_id(DEADLINE_S)}


def take(browser: Browser, address: str, shot: Shot) -> bytes:
    """One picture."""
    context = browser.new_context(
        color_scheme="dark" if shot.dark else "light",
        viewport={"width": shot.width, "height": shot.height},
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    page: Page = context.new_page()
    page.goto(address + shot.address)
    if shot.address.startswith("/tail"):
        page.wait_for_selector("#rows tr:nth-child(12)")
    picture = page.screenshot()
    context.close()
    return picture


def main() -> int:
    """Make all pictures; 1 if one is too large to be kept in the repository."""
    if CHROMIUM is None:
        print(NO_CHROMIUM)
        return 1
    INTO.mkdir(exist_ok=True)
    sizes: dict[str, int] = {}
    with demo_world() as (world, ids), console_of(world) as console, served(console) as address, chromium() as browser:
        for shot in shots(ids):
            picture = take(browser, address, shot)
            (INTO / f"{shot.name}.png").write_bytes(picture)
            sizes[shot.name] = len(picture)
    print(*(f"{name}: {size:,} bytes" for name, size in sizes.items()), sep="\n")
    return int(max(sizes.values()) > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
