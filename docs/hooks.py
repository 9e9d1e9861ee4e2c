"""What the site needs beyond mkdocs.yml: pages and files from outside docs/, the list of decisions, and Mermaid.

On a code host, pages link to each other and to files of the repository by relative paths. Here such a link is rewritten to
where the site has the target, and a file from outside docs/ is copied into the site. A link whose target does not exist is
left alone, so the strict build reports it.
"""

import posixpath
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Pages of the site that are files outside docs/.
PAGES = {"start.md": "README.md", "examples.md": "examples/README.md"}
PAGES["kubernetes.md"] = "deploy/kubernetes/README.md"
PAGES |= {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
OF_FILE = {name: uri for uri, name in PAGES.items()}
MERMAID = "assets/mermaid.min.js"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^()\s#]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions in the navigation, in the order of their numbers."""
    config.nav = _with_decisions(config.nav)
    return config


def _with_decisions(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _with_decisions(below) for title, below in nav.items()}
    if isinstance(nav, list):
        return [_with_decisions(entry) for entry in nav]
    return sorted(f"adr/{path.name}" for path in (DOCS / "adr").glob("*.md")) if nav == "adr/" else nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from the repository's root, and the Mermaid that one of the site's packages ships."""
    for uri, name in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    package = find_spec("mermaidx")
    if package is None or package.origin is None:
        raise PluginError("mermaidx is missing: run `make docs`, which installs docs/requirements.txt")
    mermaid = Path(package.origin).parent / "assets" / "mermaid.js"
    files.append(File.generated(config, MERMAID, abs_src_path=str(mermaid)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page to where the site has their targets."""
    source = ROOT / PAGES[page.file.src_uri] if page.file.src_uri in PAGES else DOCS / page.file.src_uri
    here = source.parent

    def to_site(link: re.Match[str]) -> str:
        target = (here / link[1]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return link[1]
        uri = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
        uri = OF_FILE.get(uri, uri)
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(target)))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(to_site, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Load our own Mermaid on pages with a diagram; the theme would fetch it from a remote host otherwise."""
    if 'class="mermaid"' not in output:
        return output
    source = posixpath.relpath(MERMAID, posixpath.dirname(page.url) or ".")
    return output.replace("</head>", f'<script src="{source}"></script></head>', 1)
