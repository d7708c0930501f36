"""Headless Chromium through its debugging pipe: no driver, no port, nothing of the network but the loopback."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE_S: Final = 240.0
DESKTOP, PHONE = (1280, 900), (390, 844)
PHONE_UP_TO: Final = 600


def program() -> str | None:
    """Where Chromium is, None when it is not installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Page:
    """One tab. `said`: what its console printed, its errors and what its content policy refused."""

    process: "subprocess.Popen[bytes]"
    write_to: int
    read_from: int
    session: str = ""
    said: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _rest: bytes = b""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its result. Raises AssertionError for an error."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def ask(self, script: str) -> Any:
        """The value of an expression in the page. Raises AssertionError when it throws."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def go(self, address: str) -> None:
        """Open the address and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def until(self, script: str) -> None:
        """Wait until the expression is true; a page that is just being left does not count."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if self.ask(script):
                    return
            except AssertionError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"never: {script}; {self.ask('document.body.innerText')}")

    def size(self, width: int, height: int) -> None:
        """The window, as a desktop or a phone has it."""
        scale, mobile = 1, width < PHONE_UP_TO
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of the page, to its end or of the window."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, optimizeForSpeed=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert self.process.poll() is None, "Chromium ended"
            ready = select.select([self.read_from], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, "Chromium does not answer"
            self._rest += os.read(self.read_from, 1 << 20)
        one, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(one))

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded":
            self.said.append(str(params["entry"]["text"]))
        elif method == "Page.javascriptDialogOpening":
            self.said.append(f"dialog: {params['message']}")


@contextmanager
def browser() -> Iterator[Page]:
    """A fresh browser with one empty tab."""
    found = program()
    assert found is not None, "chromium is missing. Debian: sudo apt-get install chromium"
    folder = tempfile.mkdtemp(prefix="fleet-browser-")
    (inner_read, write_to), (read_from, inner_write) = os.pipe(), os.pipe()

    def place_pipes() -> None:
        """Chromium reads from 3 and writes to 4."""
        high_read, high_write = os.dup2(inner_read, 33), os.dup2(inner_write, 34)
        os.dup2(high_read, 3)
        os.dup2(high_write, 4)

    process = subprocess.Popen(
        [found, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=place_pipes,  # noqa: PLW1509 - four system calls
    )
    os.close(inner_read)
    os.close(inner_write)
    page = Page(process, write_to, read_from)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(write_to)
        os.close(read_from)
        shutil.rmtree(folder, ignore_errors=True)
