"""Templates: one environment for all pages, and what each page is given."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import HTMLResponse

from core_tables.console import shown

HTMX: Final = "htmx-2.0.11.min.js"
# As on its package page; a test compares the file with it.
HTMX_INTEGRITY: Final = "sha384-2OatzQy1H+Zd/IIrjr1TcuDGqLXeHhbooAyJY1KdQMKnr4LZ22k31GBLdYKHmVjg"


class NavLink(NamedTuple):
    """A page in the navigation, and whether it is of one tenant."""

    path: str
    name: str
    of_tenant: bool


NAVIGATION: Final = (
    NavLink("/lanes", "Lanes", of_tenant=False),
    NavLink("/find", "Find", of_tenant=True),
    NavLink("/refused", "Refused", of_tenant=True),
    NavLink("/waits", "What waits", of_tenant=True),
    NavLink("/tail", "Tail", of_tenant=True),
)


def static_files() -> list[Traversable]:
    """The files that pages load, by name."""
    return sorted((files("core_tables.console") / "static").iterdir(), key=lambda file: file.name)


def _version() -> str:
    """Changes with any static file, so that a browser may keep each for as long as it likes."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in static_files())).hexdigest()[:12]


def link(path: str, **parameters: object) -> str:
    """A path with its parameters; those that are None or empty are left out."""
    given = {name: value for name, value in parameters.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given)}" if given else path


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("core_tables.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (
        shown.when,
        shown.when_of,
        shown.number,
        shown.duration,
        shown.as_json,
        shown.as_lines,
        shown.hex_lines,
        shown.symbol,
    ):
        made.filters[filter_.__name__] = filter_
    made.globals.update(link=link, navigation=NAVIGATION, htmx=HTMX, integrity=HTMX_INTEGRITY, version=_version())
    return made


_TEMPLATES: Final = _environment()


def template(name: str) -> Template:
    """A template of console/templates/."""
    return _TEMPLATES.get_template(name)


def page(
    request: Request,
    template_name: str,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page as HTML by a template; `values` are what the template takes."""
    found = template(template_name).render(
        path=request.url.path,
        address=str(request.url.replace(scheme="", netloc="")),
        tenant=request.query_params.get("tenant", "").strip(),
        user=getattr(request.state, "user", ""),
        **values,
    )
    return HTMLResponse(found, status_code, headers)
