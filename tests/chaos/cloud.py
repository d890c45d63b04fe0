"""``python -m tests.chaos.cloud``: a cloud store as a process, which answers as ordered and keeps what it stored.

What it answers 204 for is in its file first, so not even a kill -9 takes it back: it is the judge of the bridge.
Its orders are a file as well: a line ``usual``, or a name of `ANSWERS`. A line of the device ``refused`` is
always refused for good, alone, with 400 or, so ordered, with 422.
"""

import argparse
import gzip
import os
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock

HOST = "127.0.0.1"
BAD = b",device=refused"
HANG_S = 5
MOST_LINES = 50
"""What a store takes at once while it answers 413."""

ANSWERS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "200": (200, {}),
    "302": (302, {"Location": "http://127.0.0.1:9/"}),
    "401": (401, {}),
    "403": (403, {}),
    "404": (404, {}),
    "405": (405, {}),
    "408": (408, {}),
    "413": (413, {}),
    "422": (422, {}),
    "425": (425, {}),
    "429": (429, {"Retry-After": "1"}),
    "500": (500, {}),
    "502": (502, {}),
    "503": (503, {"Retry-After": "1"}),
    "504": (504, {}),
    "cut": (0, {}),
    "stored, and cut": (-1, {}),
    "hang": (-2, {}),
}
"""Status and headers of every error that `cloud_bridge.outcomes` documents, and three that have none."""


class Store:
    """Lines in a file."""

    def __init__(self, lines: Path, orders: Path) -> None:
        self._file = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._orders = orders
        self._turn = Lock()
        self.hang = Event()
        """Never set."""

    @property
    def order(self) -> str:
        """What it answers now."""
        return self._orders.read_text() if self._orders.exists() else "usual"

    def keep(self, body: bytes) -> None:
        """Store lines."""
        with self._turn:
            os.write(self._file, body.rstrip(b"\n") + b"\n")


def _handler(store: Store) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            order = store.order
            status, headers = ANSWERS.get(order, (204, {}))
            if status == -2:
                store.hang.wait(HANG_S)
                self.close_connection = True
            elif status == -1:
                if BAD not in body:
                    store.keep(body)
                self.close_connection = True
            elif status == 0:
                self.wfile.write(b"HTTP/1.1 2")
                self.close_connection = True
            elif status in (204, 422) or (status == 413 and body.rstrip(b"\n").count(b"\n") < MOST_LINES):
                if BAD in body:
                    refused = b'{"code":"invalid","message":"unable to parse: refused"}'
                    self._answer(422 if status == 422 else 400, {}, refused)
                else:
                    store.keep(body)
                    self._answer(204, {}, b"")
            else:
                self._answer(status, headers, b'{"code":"chaos","message":"as ordered"}')

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler


def main() -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A cloud store that answers as ordered.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    store = Store(arguments.folder / "lines", arguments.folder / "orders")
    ThreadingHTTPServer((HOST, arguments.port), _handler(store)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
