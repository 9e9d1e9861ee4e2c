"""The ledger in servers: FastAPI with requests that come at once, under uvicorn, and under gunicorn with forked workers."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core_tables.deploy.process import free_port

from .world import World, wait_until

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parent.parent
ORDERS = 40


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working():
        yield


@contextmanager
def served(world: World, log: Path, *command: str, folder: Path) -> Iterator[str]:
    """The URL of a server that answers, for as long as the block runs; it must end when it is asked to."""
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=world.environment(), cwd=folder, stdout=sink, stderr=sink
        )
    port = command[-1].rpartition(":")[2]
    url = f"http://127.0.0.1:{port}"
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text("utf-8")
            try:
                return httpx2.get(f"{url}/openapi.json").status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers, "the server to answer")
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), log.read_text("utf-8")
    finally:
        process.kill()


def at_once(url: str, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx2.Response]:
    """The answers to requests that are all sent before the first is answered."""

    async def ask() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=len(requests))
        async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            asked = (client.request(method, path, **options) for method, path, options in requests)
            return list(await asyncio.gather(*asked))

    return asyncio.run(ask())


def test_a_service_answers_requests_that_come_at_once_each_with_its_own_outcome(world: World, tmp_path: Path) -> None:
    command = ("uvicorn", "--app-dir", "examples", "service:app", "--port", str(free_port()))
    with served(world, tmp_path / "log", *command, folder=ROOT) as url:
        orders = [f"/web/orders/order-{number}" for number in range(ORDERS)]
        bodies = [{"correlation_id": number + 1, "requester_user_id": "ada"} for number in range(ORDERS)]
        twice = [("POST", path, {"json": body}) for path, body in zip(orders, bodies, strict=True) for _ in range(2)]
        created = at_once(url, *twice)
        assert {answer.status_code for answer in created} == {200}
        for one, other in zip(created[::2], created[1::2], strict=True):
            assert one.json()["event_id"] == other.json()["event_id"]
            assert {one.json()["replayed"], other.json()["replayed"]} == {True, False}
        header = {"idempotency-key": "m-1"}
        set_fields = [
            ("PUT", f"{path}/fields/number", {"json": {"value": number}, "headers": header})
            for number, path in enumerate(orders)
        ]
        seen = [answer.json()["event_id"] for answer in at_once(url, *set_fields)]
        reads = [("GET", path, {"params": {"at_least": event_id}}) for path, event_id in zip(orders, seen, strict=True)]
        records = [answer.json() for answer in at_once(url, *reads)]
        assert [(record["fields_json"], record["last_event_id"]) for record in records] == [
            ({"number": number}, event_id) for number, event_id in enumerate(seen)
        ]
        listed = httpx2.get(f"{url}/web/pending/ada", params={"at_least": max(seen)}).json()
        assert len(listed) == 10
        bound, wrong, absent = at_once(
            url,
            ("POST", "/web/orders/another", {"json": bodies[0]}),
            ("POST", "/web/orders/order-0", {"json": {**bodies[0], "requester_user_id": " "}}),
            ("GET", "/web/orders/nothing", {}),
        )
        assert (bound.status_code, bound.json()["detail"]["reason_code"]) == (
            409,
            "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED",
        )
        assert (wrong.status_code, wrong.json()["field"]) == (422, "requester_user_id")
        assert absent.status_code == 404


@pytest.mark.parametrize("preload", [True, False], ids=["connected before the fork", "connected in each worker"])
def test_the_workers_of_gunicorn_append_and_read_each_on_connections_of_its_own(
    world: World, tmp_path: Path, preload: bool
) -> None:
    options = ["-k", "asgi", "-w", "2", *(["--preload"] if preload else []), "-b", f"127.0.0.1:{free_port()}"]
    with served(world, tmp_path / "log", "gunicorn", "tests.served:app", *options, folder=ROOT) as url:
        workers: set[int] = set()
        round_number = 0

        def both_have_answered() -> bool:
            nonlocal round_number
            round_number += 1
            names = [(f"fork-{number % 5}", f"{preload}-{round_number}-{number}") for number in range(ORDERS)]
            answers = [answer.json() for answer in at_once(url, *(("POST", f"/{t}/{o}", {}) for t, o in names))]
            assert [(answer["outcome"], tuple(answer["seen"])) for answer in answers] == [
                ("Accepted", name) for name in names
            ]
            workers.update(answer["process"] for answer in answers)
            return len(workers) == 2

        wait_until(both_have_answered, "both workers to answer")
