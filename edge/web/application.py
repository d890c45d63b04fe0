"""The web application put together from its parts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastapi import FastAPI

from edge.control_client import SOCKET_NAME, ControlClient
from edge.web import board, problems
from edge.web.api import Api
from edge.web.database import Database
from edge.web.feed import AlarmFeed
from edge.web.guard import Guard
from edge.web.history import HistoryHelper
from edge.web.orders import Orders
from edge.web.settings import WebSettings


def application(settings: WebSettings, database: Database) -> tuple[FastAPI, AlarmFeed]:
    """The application, and the feed that must be closed before the server waits for its connections."""
    node = ControlClient(Path(settings.data_dir) / SOCKET_NAME)
    feed = AlarmFeed(database, node)
    history = HistoryHelper(settings.data_dir, idle_s=settings.history_idle_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            follow = tasks.create_task(feed.run(), name="alarm-feed")
            yield
            follow.cancel()
        await history.close()
        await node.close()
        await database.close()

    app = FastAPI(
        title="Anlin",
        summary="What stands, what is heard, how the gateway is. Read only.",
        version=_version(),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    problems.install(app)
    app.include_router(Api(settings, node, database, feed, history).router())
    app.include_router(Orders(database).router())
    app.include_router(board.routes(settings.language))
    app.add_middleware(Guard, host=settings.host)
    return app, feed


def _version() -> str:
    try:
        return version("anlin")
    except PackageNotFoundError:
        return "0"
