"""The console as an ASGI application: its routes, none of which takes anything but GET and HEAD, and its error pages."""

from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from core_tables.console.access import Access, AccessCheck
from core_tables.console.find_page import find_records
from core_tables.console.lanes_page import lanes
from core_tables.console.ports import Ports
from core_tables.console.refused_page import refused_one, refused_records
from core_tables.console.rendering import page
from core_tables.console.tail_page import tail, tail_events
from core_tables.console.waits_page import waits
from core_tables.console.work_order_page import work_order
from core_tables.schemas.reasons import ContractError, CoreTablesError

_READ_ONLY = ["GET"]  # and with it HEAD


def console_app(ports: Ports, access: Access) -> AccessCheck:
    """The application over the reads of one ledger, for those who may use it."""
    return AccessCheck(pages_app(ports), access, ports.log)


def pages_app(ports: Ports) -> Starlette:
    """The pages without the check of who asks."""
    pages = {
        "/": _to_lanes,
        "/lanes": lanes,
        "/find": find_records,
        "/work-order": work_order,
        "/refused": refused_records,
        "/refused/record": refused_one,
        "/waits": waits,
        "/tail": tail,
        "/tail/events": tail_events,
    }
    static = _StaticFiles(directory=str(files("core_tables.console") / "static"))
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=_READ_ONLY) for path, endpoint in pages.items()),
            Mount("/static", static, name="static"),
        ],
        exception_handlers={HTTPException: _http_error, CoreTablesError: _our_error, Exception: _defect},
    )
    app.state.ports = ports
    return app


class _StaticFiles(StaticFiles):
    """Files whose addresses change with them, so that a browser need not ask again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or an error."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def _to_lanes(_request: Request) -> Response:
    return RedirectResponse("/lanes", 307)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    titles = {404: "Not found", 405: "Not possible", 503: "Not now"}
    why = error.detail
    if error.status_code == 404 and why == "Not Found":
        why = "There is no page at this address."
    if error.status_code == 405:
        why = "The console only reads, so it takes nothing but GET and HEAD."
    return page(
        request,
        "error.html",
        error.status_code,
        error.headers,
        title=titles.get(error.status_code, "Error"),
        why=why,
        again=False,
    )


def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoreTablesError)  # noqa: S101 - registered for it
    if isinstance(error, ContractError):
        return page(request, "error.html", 400, title="That cannot be asked", why=error.message, again=False)
    title = "Not now" if error.retryable else "This needs an operator"
    return page(request, "error.html", 503, title=title, why=error.message, again=error.retryable)


async def _defect(request: Request, _error: Exception) -> Response:
    """Asynchronous, so that it runs where the error is handled: the log line takes the traceback from there."""
    log: Any = request.app.state.ports.log
    log.exception("page_failed", page=request.url.path)
    return page(
        request,
        "error.html",
        500,
        title="A defect",
        why="This page failed; the console's log has the cause.",
        again=False,
    )
