"""The network between two parties, as a TCP proxy in a thread of its own that can be told to behave badly."""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
_CHUNK = 64 * 1024
STALLED = 0.05
"""Of the pieces of data, while the network stalls."""


class Weather(StrEnum):
    """How the network is."""

    FAIR = "fair"
    PARTITION = "partition"
    """Nothing passes either way, nobody is told; who connects anew gets no answer."""
    LATENCY = "latency"
    """Each piece of data comes later, up to 300 ms, in order."""
    STALLS = "stalls"
    """As loss looks to TCP: now and then nothing for up to a second, then everything."""


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection through the proxy."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    dead: bool = False
    """Half-open: silent on the near side until that gives up, closed on the far side."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """The near side has gone."""


class Proxy:
    """Listens on ``port`` and hands on to ``target_port``."""

    def __init__(self, target_port: int, seed: int) -> None:
        self._target_port = target_port
        self._chance = Random(seed)
        self._weather = Weather.FAIR
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{target_port}", daemon=True)
        self._listening = socket.create_server((HOST, 0), backlog=1_024)
        self.port: int = self._listening.getsockname()[1]
        self._fair = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listening.close()

    # --- what the injector says -----------------------------------------------------------------------------

    def be(self, weather: Weather) -> None:
        """From now on."""
        self._loop.call_soon_threadsafe(self._become, weather)

    def half_open(self) -> None:
        """Every connection dies on the far side, and the near side is not told."""
        self._loop.call_soon_threadsafe(self._kill_far_sides)

    def forget_half_open(self) -> None:
        """Those who still wait are told at last."""
        self._loop.call_soon_threadsafe(self._tell)

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._fair.set()
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listening))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    def _become(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.PARTITION:
            self._fair.clear()
        else:
            self._fair.set()

    def _kill_far_sides(self) -> None:
        for pair in self._pairs:
            pair.dead = True
            if pair.far is not None:
                pair.far.close()

    def _tell(self) -> None:
        for pair in list(self._pairs):
            if pair.dead:
                pair.near.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            await self._fair.wait()
            far_reader, pair.far = await asyncio.open_connection(HOST, self._target_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(_quietly(self._pump(reader, pair.far, pair)))
                both.create_task(_quietly(self._pump(far_reader, writer, pair)))
        except (OSError, asyncio.CancelledError):  # cancelled only when the thread ends; asyncio would log it
            pass
        finally:
            self._pairs.discard(pair)
            for side in (writer, pair.far):
                if side is not None:
                    side.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        try:
            while data := await reader.read(_CHUNK):
                await self._delay()
                if not pair.dead:  # else into the void
                    writer.write(data)
                    await writer.drain()
            await self._fair.wait()  # nor does a FIN pass a partition
        finally:
            if writer is pair.far:
                pair.over.set()
            elif pair.dead:
                await pair.over.wait()  # the near side hears nothing
            writer.close()

    async def _delay(self) -> None:
        await self._fair.wait()
        if self._weather is Weather.LATENCY:
            await asyncio.sleep(self._chance.uniform(0.02, 0.3))
        elif self._weather is Weather.STALLS and self._chance.random() < STALLED:
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))


async def _quietly(pump: Coroutine[Any, Any, None]) -> None:
    with suppress(OSError):
        await pump
