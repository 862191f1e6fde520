"""A headless Chromium, driven through its debugging pipe: no driver, no further package, no socket."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """LANGADAPT_CHROMIUM, or the first browser on the path."""
    chosen = os.environ.get("LANGADAPT_CHROMIUM")
    return chosen or next((found for name in NAMES if (found := shutil.which(name))), None)


class Navigated(Exception):
    """The page went to another one while it was asked."""


class Browser:
    """One page of one browser."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._pending = b""
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        """What the console shows: errors of scripts, styles, policies and failed requests."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    _session: str | None = None

    def open(self, url: str) -> None:
        """Goes to a page and waits until it is there with its pictures."""
        self._call("Page.navigate", url=url)
        self.settle()

    def settle(self) -> None:
        """Waits until page and pictures are complete, those below the window too."""
        self.value("[...document.images].forEach(image => { image.loading = 'eager' })")
        self.wait_for("document.readyState === 'complete' && [...document.images].every(i => i.complete)")

    def wait_for(self, script: str) -> None:
        """Waits until an expression is true."""
        for _ in range(400):
            with suppress(Navigated):
                if self.value(script):
                    return
            time.sleep(0.05)
        raise AssertionError(f"does not become true: {script}")

    def value(self, script: str) -> Any:
        """What an expression is in the page."""
        said = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self._call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        place = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView();"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Sets the window's size and the user's colour scheme."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)

    def choose_file(self, selector: str, path: Path) -> None:
        """Puts a file into a form's field, as its dialog does."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        field = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=field, files=[str(path)])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes what is to be seen as PNG, or the whole page."""
        more: dict[str, Any] = {}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png", **more)["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("method") == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.complaints.append(said["params"]["entry"]["text"])
            if said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(said["params"]["exceptionDetails"]))
            if said.get("id") == self._number:
                if "navigated" in said.get("error", {}).get("message", ""):
                    raise Navigated(said)
                assert "error" not in said, said
                return said["result"]

    def _next(self) -> Any:
        while b"\0" not in self._pending:
            read = os.read(self._read, 1 << 20)
            assert read, "the browser has gone"
            self._pending += read
        first, _, self._pending = self._pending.partition(b"\0")
        return json.loads(first)


def faults(browser: Browser) -> list[str]:
    """What is wrong with the page's layout: wider than the window, pictures that are missing, texts that
    are faint (contrast below 4.5 to 1, WCAG 2 AA), or cut off or below 8 pixels in a drawing."""
    found: list[str] = browser.value(Path(__file__).with_name("faults.js").read_text())
    return found + browser.complaints


@contextmanager
def chromium(program: str, profile: Path) -> Iterator[Browser]:
    """Starts a browser of its own and ends it."""
    from_us, to_browser = os.pipe(), os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4.
    shell = f'exec 3<&{from_us[0]} 4>&{to_browser[1]}; exec "$@"'
    command = ["bash", "-c", shell, "bash", program, *FLAGS, f"--user-data-dir={profile}"]
    inherited = (from_us[0], to_browser[1])
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=inherited, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    for number in inherited:
        os.close(number)
    try:
        yield Browser(from_us[1], to_browser[0])
    finally:
        os.close(from_us[1])
        os.close(to_browser[0])
        process.terminate()
        process.wait(20)
