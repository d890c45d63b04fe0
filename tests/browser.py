"""A real Chromium, driven over the WebDriver protocol; no driver library needed."""

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import PATIENCE_S, eventually
from tests.web_world import free_port
from tools.servers import locate

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

_WAIT = """
const [condition, done] = [new Function(`return (${arguments[0]})`), arguments[arguments.length - 1]];
const look = () => { if (condition()) done(true); else setTimeout(look, 20); };
look();
"""


class Browser:
    """One window, from ``with`` on. ``profile`` is an empty directory of its own."""

    def __init__(self, profile: Path, language: str = "en") -> None:
        self._profile = profile
        self._language = language
        self._port = free_port()
        self._driver: subprocess.Popen[bytes] | None = None
        self._session = ""

    def __enter__(self) -> Self:
        self._driver = subprocess.Popen(
            [str(locate("chromedriver")), f"--port={self._port}", "--log-level=OFF"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        options = {
            "binary": str(locate("chromium")),
            "args": [*_FLAGS, f"--user-data-dir={self._profile}", f"--lang={self._language}"],
        }
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        try:
            self._session = eventually(lambda: self._begun(wanted))
            self._command("timeouts", {"script": int(PATIENCE_S * 1000)})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            self._call("DELETE", self._session, None)
        if self._driver is not None:
            self._driver.terminate()
            self._driver.wait(PATIENCE_S)

    def _begun(self, wanted: dict[str, Any]) -> str:
        """The new session, or nothing while the driver does not answer."""
        try:
            return f"/session/{self._call('POST', '/session', wanted)['sessionId']}"
        except ConnectionError:
            if self._driver is None or self._driver.poll() is not None:
                raise
            return ""

    def open(self, url: str) -> None:
        self._command("url", {"url": url})

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        """The viewport, and the colours that the viewer prefers."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._chrome("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._chrome("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str) -> Any:
        """What the expression gives in the page."""
        return self._command("execute/sync", {"script": f"return ({script})", "args": []})

    def until(self, condition: str) -> None:
        """Wait in the page until the expression is true."""
        self._command("execute/async", {"script": _WAIT, "args": [condition]})

    def click(self, selector: str) -> None:
        found = self._command("element", {"using": "css selector", "value": selector})
        self._command(f"element/{next(iter(found.values()))}/click", {})

    def text(self, selector: str) -> str:
        """As a person sees it."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot", None)))

    def _chrome(self, command: str, params: dict[str, Any]) -> None:
        self._command("goog/cdp/execute", {"cmd": command, "params": params})

    def _command(self, name: str, body: dict[str, Any]) -> Any:
        return self._call("POST", f"{self._session}/{name}", body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE_S + 10) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from error
        except urllib.error.URLError as error:
            raise ConnectionError(str(error)) from error
