"""A real Chromium for tests: Debian's, driven by Playwright, which downloads no browser of its own."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM: Final = shutil.which("chromium")
NO_CHROMIUM: Final = "Chromium is not installed (apt-get install chromium)"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)

# Scripts of a test are not subject to the policy of a page, and see what is.
_NOTE_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; it is asked for nothing outside of this machine."""
    with sync_playwright() as playwright:
        # Root cannot use the sandbox, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def complaints_of(page: Page) -> list[str]:
    """What the browser says is wrong with what a page does, as it says it: errors, and violations of the policy."""
    found: list[str] = []
    page.add_init_script(_NOTE_VIOLATIONS)
    page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found
