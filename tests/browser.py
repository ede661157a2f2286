"""Pages in a browser, headless Chromium by Playwright, for tests of them."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
browsing = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


@contextmanager
def opened(browser, url, **settings):
    """A page; at its end, no error in the console, nothing asked but of where it came from, nothing owned."""
    context = browser.new_context(viewport=settings.pop("viewport", {"width": 1280, "height": 720}), **settings)
    page, trouble = context.new_page(), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: trouble.append("a dialog"))
    home = url if str(url).startswith("http") else url.as_uri()
    page.on("request", lambda r: None if r.url.startswith((home, "data:", "blob:")) else trouble.append(r.url))
    page.goto(home)
    yield page
    trouble += ["owned"] * bool(page.evaluate("!!window.owned"))
    context.close()
    assert trouble == []


def until(page, wanted, seconds=15):
    """Wait for what Playwright's own waiting can't see: it evaluates strings in the page, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(wanted):
        assert time.monotonic() < end, wanted
        page.wait_for_timeout(50)


def drawn(page, what="#map"):
    return page.locator(what).first.screenshot()
