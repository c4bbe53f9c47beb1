"""A real Chromium without a window, spoken to over two pipes in its DevTools protocol: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ANSWER_SECONDS = 60.0
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root has to do without; the tests open their own pages alone
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. headers: sent with every request, such as Authorization."""

    def __init__(
        self,
        program: str,
        folder: Path,
        *,
        width: int = 1500,
        height: int = 1100,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        options = (*OPTIONS, f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank")
        wrap = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with (folder.parent / "chromium.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", wrap, "bash", program, *options],
                pass_fds=(theirs_in, theirs_out),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=10_000)  # what the page did, newest last
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Network.enable")
        self._call("Log.enable")
        self._call("Runtime.enable")
        self._call("Page.bringToFront")
        self._call("Emulation.setFocusEmulationEnabled", enabled=True)
        if headers:
            self._call("Network.setExtraHTTPHeaders", headers=dict(headers))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def open(self, address: str, *texts: str, seconds: float = 90.0) -> str:
        """The page's text, once it has all of `texts`."""
        self._call("Page.navigate", url="about:blank")  # an address that differs after # alone would load nothing
        self._call("Page.navigate", url=address)
        return self.wait(*texts, seconds=seconds)

    def wait(self, *texts: str, seconds: float = 90.0) -> str:
        deadline = time.monotonic() + seconds
        while True:
            shown = self.text()
            missing = [text for text in texts if text not in shown]
            if not missing:
                return shown
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.run('location.href')} shows no {missing} after {seconds:g} s, but:\n{shown}"
                )
            time.sleep(0.25)

    def text(self) -> str:
        return str(self.run("document.body ? document.body.innerText : ''"))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        reply = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise AssertionError(f"{script}: {reply['exceptionDetails']}")
        return reply["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """At a place of the window, in pixels."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            buttons = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **buttons)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page a window of so many pixels, narrower ones too than a window of the desktop can be."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def complaints(self) -> list[str]:
        """What the console shows as an error or a warning, and exceptions that nobody caught."""
        found = []
        for event in self.events:
            said = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(said["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
                found.append(str(said["entry"]))
            elif event["method"] == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
                found.append(str(said["args"]))
        return found

    def requested(self) -> list[str]:
        """The addresses that were asked for, in order."""
        sent = (event for event in self.events if event["method"] == "Network.requestWillBeSent")
        return [str(event["params"]["request"]["url"]) for event in sent]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            reply = self._receive(deadline, method)
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise AssertionError(f"{method}: {reply['error']}")
                result: dict[str, Any] = reply["result"]
                return result
            if "method" in reply:
                self.events.append(reply)

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{method}: Chromium did not answer within {ANSWER_SECONDS:g} s")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise AssertionError(f"{method}: Chromium is gone")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(line)
        return reply
