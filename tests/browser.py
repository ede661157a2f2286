"""Headless Chromium for tests, spoken to over its debugging pipe: no driver to install, no port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time


class Browser:
    """One page in one tab, with what its console and its network did."""

    def __init__(self, page, folder, flags=()):
        to_browser, self.out = os.pipe()
        self.back, from_browser = os.pipe()
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        quiet = (
            "--disable-background-networking --disable-component-update --disable-sync --disable-quic --no-first-run"
        )
        drawn = "--headless --no-sandbox --disable-gpu --enable-unsafe-swiftshader --window-size=1280,720"
        flags = [*drawn.split(), *quiet.split(), "--remote-debugging-pipe", f"--user-data-dir={folder}", *flags]
        self.process = subprocess.Popen(
            ["bash", "-c", command, shutil.which("chromium") or "chromium", *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.count, self.buffer, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete'")

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        os.write(self.out, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                read = os.read(self.back, 1 << 20)
                assert read, "chromium ended"
                self.buffer += read
            raw, self.buffer = self.buffer.split(b"\0", 1)
            reply = json.loads(raw)
            if reply.get("id") == self.count:
                return reply["result"]
            self.events.append(reply)

    def run(self, source):
        result = self.call("Runtime.evaluate", expression=source, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, source, seconds=10):
        end = time.monotonic() + seconds
        while not self.run(source):
            assert time.monotonic() < end, source
            time.sleep(0.05)

    def key(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def trouble(self):
        """Errors in the console, and requests for anything but the page."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        errors = [e for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        errors += [
            e for e in self.events if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
        ]
        return errors + [url for url in asked if not url.startswith("file:")]

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        os.close(self.out)
        os.close(self.back)
