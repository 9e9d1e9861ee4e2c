"""The console before any page: who may ask it, which methods it takes, what it says without its packages."""

import base64
import hashlib
import ipaddress
import re
import subprocess
import sys
import threading
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from click.testing import CliRunner
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from core_tables.cli.console import PACKAGES_OF_THE_CONSOLE
from core_tables.cli.main import main
from core_tables.console.access import Access, AccessCheck, Local, Proxied, WithPassword
from core_tables.console.app import pages_app
from core_tables.console.latest_status import LatestStatus
from core_tables.console.passwords import Passwords, hashed_password
from core_tables.console.ports import Ports
from core_tables.console.rendering import HTMX, HTMX_INTEGRITY
from core_tables.consumer.lane_status import LedgerStatus
from core_tables.schemas.reasons import SetupError, UnavailableError

from .world import wait_until


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the user."""
    await PlainTextResponse(scope["state"]["user"])(scope, receive, send)


def asked(
    access: Access, host: str = "127.0.0.1:8600", client: str = "127.0.0.1", **headers: str
) -> tuple[int, str, list[Any]]:
    """Status and text of a request, and the causes in the log."""
    lines: list[MutableMapping[str, Any]] = []

    def keep(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        lines.append(event)
        return ""

    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep])
    sender = TestClient(AccessCheck(who, access, log), base_url="http://127.0.0.1", client=(client, 40_000))
    answer = sender.get(
        "/", headers={"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.text.strip(), [line["cause"] for line in lines]


@pytest.mark.parametrize("host", ["127.0.0.1:8600", "localhost:8600", "LOCALHOST", "[::1]:8600"])
def test_a_local_console_answers_for_names_of_this_machine(host: str) -> None:
    assert asked(Local("ada"), host) == (200, "ada", [])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_local_console_refuses_a_name_that_was_pointed_at_it(host: str) -> None:
    status, _text, causes = asked(Local("ada"), host)
    assert (status, causes) == (400, ["host"])


PROXIED = Proxied("X-Forwarded-User", (ipaddress.ip_network("10.0.7.0/24"), ipaddress.ip_network("fd00::/8")))


@pytest.mark.parametrize("client", ["10.0.7.9", "::ffff:10.0.7.9", "fd00::1"])
def test_a_trusted_proxy_says_who_the_user_is(client: str) -> None:
    assert asked(PROXIED, "console.example", client, x_forwarded_user="ada") == (200, "ada", [])


@pytest.mark.parametrize(
    ("client", "headers", "cause"),
    [
        ("10.0.8.1", {"x_forwarded_user": "ada"}, "proxy"),
        ("127.0.0.1", {"x_forwarded_user": "ada", "x_forwarded_for": "10.0.7.9"}, "proxy"),
        ("10.0.7.9", {}, "header"),
        ("10.0.7.9", {"x_forwarded_user": " "}, "header"),
    ],
)
def test_a_header_of_anyone_else_is_worth_nothing(client: str, headers: dict[str, str], cause: str) -> None:
    status, _text, causes = asked(PROXIED, "console.example", client, **headers)
    assert (status, causes) == (403, [cause])


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("console") / "passwords"
    file.write_text(
        f"# who may look\n{hashed_password('ada', 'söme: pass')}\n{hashed_password('bob', 'other')}\n", "utf-8"
    )
    return file


def test_a_password_lets_its_user_in_and_no_other(password_file: Path) -> None:
    access = WithPassword(Passwords.read(password_file))
    assert asked(access, authorization=basic("ada", "söme: pass")) == (200, "ada", [])
    assert asked(access, authorization=basic("ada", "söme: pass")) == (200, "ada", []), "known by now"
    for header in (
        basic("ada", "other"),
        basic("bob", "söme: pass"),
        basic("eve", "other"),
        basic("", ""),
        "Basic ?",
        "Bearer x",
    ):
        status, _text, causes = asked(access, authorization=header)
        assert (status, causes) == (401, ["password"]), header
    assert asked(access)[::2] == (401, []), "who has not tried yet is asked"


def test_the_password_file_has_no_password_and_no_two_lines_alike(password_file: Path) -> None:
    text = password_file.read_text("utf-8")
    assert "other" not in text
    assert hashed_password("ada", "x") != hashed_password("ada", "x")


@pytest.mark.parametrize(
    "line", ["", "ada:secret", "ada:scrypt:15:8:1:AAAA:AAAA", "ada:scrypt:32768:8:1:?:AAAA", ":scrypt:2:8:1:AA==:AA=="]
)
def test_a_password_file_that_cannot_be_right_is_refused_without_quoting_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(line)
    with pytest.raises(SetupError) as caught:
        Passwords.read(file)
    assert "--hash-password" in caught.value.message
    assert "secret" not in caught.value.message


def test_no_route_takes_anything_but_get_and_head() -> None:
    routes = pages_app(cast(Ports, None)).routes
    assert len(routes) > 8
    for route in routes:
        if isinstance(route, Mount):
            assert route.path == "/static", "Starlette serves files by GET and HEAD only, and a test asks it"
        else:
            assert isinstance(route, Route)
            assert route.methods == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused_everywhere(method: str) -> None:
    app = pages_app(cast(Ports, None))
    client = TestClient(app, base_url="http://127.0.0.1")
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    for path in (*paths, f"/static/{HTMX}", "/static/console.css"):
        assert client.request(method, path).status_code == 405, path


def test_htmx_is_the_file_that_its_checksum_names() -> None:
    file = files("core_tables.console") / "static" / HTMX
    digest = base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode()
    assert f"sha384-{digest}" == HTMX_INTEGRITY


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "0.0.0.0"], "users must log in"),  # noqa: S104
        (["--host", "192.0.2.1", "--port", "0"], "users must log in"),
        (["--host", "console.example"], "users must log in"),
        (["--auth-header", "X-User"], "--trusted-proxy"),
        (["--trusted-proxy", "10.0.0.0/8"], "--auth-header"),
        (["--auth-header", "X-User", "--trusted-proxy", "10.0.0.1/8"], "has host bits set"),
        (["--hash-password", "a:b"], "without a colon"),
    ],
)
def test_a_console_that_others_could_open_is_refused(arguments: list[str], why: str) -> None:
    done = CliRunner().invoke(main, ["console", *arguments], input="x\nx\n")
    assert done.exit_code == 2, done.output
    assert why in " ".join(done.output.replace("│", " ").split())


def test_a_line_of_the_password_file_is_made_by_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["console", "--hash-password", "ada"], input="söme\nsöme\n")
    assert done.exit_code == 0, done.output
    file = tmp_path / "passwords"
    file.write_text(done.stdout, "utf-8")
    assert Passwords.read(file).accepts("ada", "söme")


def luminance(colour: str) -> float:
    """How bright a colour is, as WCAG 2 defines it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colours: dict[str, str], one: str, other: str) -> float:
    dark, bright = sorted((luminance(colours[one]), luminance(colours[other])))
    return (bright + 0.05) / (dark + 0.05)


def test_text_and_edges_have_the_contrast_that_wcag_asks_for_in_light_and_dark() -> None:
    css = (files("core_tables.console") / "static" / "console.css").read_text("utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in re.findall(r":root \{([^}]*)\}", css))
    for colours in (light, dark):
        for text in ("ink", "quiet", "accent", "good", "wait", "run", "bad"):
            for ground in ("paper", "surface"):
                assert contrast(colours, text, ground) >= 4.5, (text, ground)
        for name in ("accent", "good", "wait", "run", "bad", "still"):
            assert contrast(colours, name, f"{name}-soft") >= 4.5, name
        for ground in ("accent-soft", "still-soft"):
            assert contrast(colours, "quiet", ground) >= 4.5, ground
        assert contrast(colours, "paper", "accent") >= 4.5, "what a button says"
        assert contrast(colours, "edge", "surface") >= 3, "where a field begins"


def test_those_who_ask_for_the_lanes_at_once_share_one_answer_an_error_too() -> None:
    asked_by, may_answer = list[int](), threading.Event()

    def ask() -> LedgerStatus:
        asked_by.append(threading.get_ident())
        assert may_answer.wait(60)
        raise UnavailableError("kafka", "Kafka did not answer")

    latest = LatestStatus(ask)
    with ThreadPoolExecutor(8) as browsers:
        answers = [browsers.submit(latest.get) for _ in range(8)]
        wait_until(lambda: asked_by, "the first to ask")
        may_answer.set()
        assert all(isinstance(answer.exception(60), UnavailableError) for answer in answers)
    assert len(asked_by) == 1


def test_without_its_packages_the_command_says_what_to_install() -> None:
    program = (
        "import sys, importlib.util as u; found = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name in {PACKAGES_OF_THE_CONSOLE!r} else found(name, *rest)\n"
        "from core_tables.cli.main import main; main(['console'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 13
    assert "pip install 'core-tables[console]'" in done.stderr
