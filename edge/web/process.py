"""``python -m edge.web.process SETTINGS``: the web process, as the node starts it.

Promises: serves on loopback only; ends when its standard input ends, which is when its parent has died; a
port that is taken is one line on standard error and exit code 3, wrong settings are exit code 2. Must not
write the database.
"""

import asyncio
import os
import signal
import socket as sockets
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from edge import logs
from edge.store import schema
from edge.web.application import application
from edge.web.database import Database
from edge.web.feed import AlarmFeed
from edge.web.settings import SettingsError, WebSettings

EXIT_SETTINGS = 2
EXIT_PORT = 3

_STDIN = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logs.configure()
    try:
        settings = WebSettings.parse(arguments[0] if arguments else "")
    except SettingsError as error:
        return _fail(str(error), EXIT_SETTINGS)
    try:
        listener = _listen(settings)
    except OSError as error:
        return _fail(
            f"cannot serve on {settings.host}:{settings.port} ({error.strerror}): "
            "set http.port to a free port, or end the program that has it",
            EXIT_PORT,
        )
    with listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        logs.LIFE.info("the board is up", extra={"url": f"http://{host}:{listener.getsockname()[1]}/"})
        asyncio.run(_serve(settings, listener))
    return 0


class _Server(uvicorn.Server):
    """Ends the event streams first, else it would wait for them."""

    def __init__(self, config: uvicorn.Config, feed: AlarmFeed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[sockets.socket] | None = None) -> None:
        self._feed.close()
        await super().shutdown(sockets)


async def _serve(settings: WebSettings, listener: sockets.socket) -> None:
    database = Database(Path(settings.data_dir) / schema.FILE)
    app, feed = application(settings, database)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.listeners_max + 100,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, feed)
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True

    watch = threading.Thread(target=_await_parent, args=(loop, end), name="parent", daemon=True)
    watch.start()
    # uvicorn takes the signals while it serves and raises them again afterwards, when all is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    await server.serve([listener])


def _listen(settings: WebSettings) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in settings.host else sockets.AF_INET
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        # Inherited by each connection: the kernel drops a client that takes nothing.
        listener.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, int(settings.drop_after_s * 1000))
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _await_parent(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Read standard input to its end; the parent never writes to it."""
    while os.read(_STDIN, 4096):
        pass
    loop.call_soon_threadsafe(end)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"anlin web: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
