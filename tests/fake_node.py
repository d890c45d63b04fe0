"""A node that is only its control socket (docs/control-socket.md), for tests of what talks to it."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from devices.faults import nearest
from edge.control_client import SOCKET_NAME
from rules.alarms import AlarmChange

HEALTHY: dict[str, Any] = {
    "status": "ok",
    "reasons": [],
    "embedded_broker": False,
    "version": "0.1.0",
    "site": "c1",
    "node": "gw-1",
    "uptime_s": 61.5,
    "cloud": None,
    "counts": {"devices": 3, "online": 2, "offline": 1, "unheard": 0, "unregistered": 1, "standing": 0},
}


def device(name: str, kind: str = "smoke") -> dict[str, Any]:
    return {
        "address": f"c1/{kind}/{name}",
        "kind": kind,
        "device": name,
        "state": "normal",
        "online": True,
        "last_seen": 1_790_000_000_000,
        "registered": True,
        "place": {"building": "3"},
        "points": {"battery": 93.0, "smoke": False},
        "flags": 0,
    }


class FakeNode:
    """Serves ``node.sock`` in a data directory from ``async with`` on."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / SOCKET_NAME
        self.health: dict[str, Any] = dict(HEALTHY)
        self.metrics = "# TYPE anlin_messages counter\nanlin_messages 7\n"
        self.devices = [device("sm1"), device("sm2"), device("p1", "charger")]
        self.silent = asyncio.Event()
        """While set, requests are read and not answered."""
        self.requests: list[dict[str, Any]] = []
        self.subscribed = asyncio.Event()
        self._subscribers: list[asyncio.StreamWriter] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        while self._writers:
            with suppress(ConnectionError):
                await next(iter(self._writers)).wait_closed()
            await asyncio.sleep(0)
        self._server = None
        self.path.unlink(missing_ok=True)
        self.subscribed.clear()

    def push(self, number: int, change: AlarmChange) -> None:
        line = msgspec.json.encode(
            {
                "push": "alarm",
                "number": number,
                "transition": change.transition,
                "alarm": msgspec.Raw(change.alarm.wire()),
            }
        )
        for writer in self._subscribers:
            writer.write(line + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                request = json.loads(line)
                self.requests.append(request)
                if not self.silent.is_set():
                    writer.write(json.dumps(self._answer(request)).encode() + b"\n")
                if request["op"] == "subscribe":
                    self._subscribers.append(writer)
                    self.subscribed.set()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            if writer in self._subscribers:
                self._subscribers.remove(writer)
            writer.close()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "health":
                result: Any = self.health
            case "metrics":
                result = {"text": self.metrics}
            case "subscribe":
                result = {}
            case "devices":
                result = self._page(request)
            case "device":
                result = next((one for one in self.devices if one["address"] == request["address"]), None)
                if result is None:
                    near = nearest(request["address"], [one["address"] for one in self.devices])
                    meant = "" if near is None else f"; did you mean {near.partition('/')[2]}?"
                    return self._refusal(request, "not_found", f"no device {request['address']}{meant}")
            case op:
                return self._refusal(request, "unknown_op", f"no operation {op}")
        return {"id": request["id"], "ok": True, "result": result}

    def _page(self, request: dict[str, Any]) -> dict[str, Any]:
        found = [
            one
            for one in sorted(self.devices, key=lambda one: str(one["address"]))
            if one["address"] > request.get("after", "") and one["kind"] == request.get("kind", one["kind"])
        ]
        limit = request.get("limit", 100)
        return {"items": found[:limit], "next": found[limit - 1]["address"] if len(found) > limit else None}

    def _refusal(self, request: dict[str, Any], code: str, message: str) -> dict[str, Any]:
        return {"id": request["id"], "ok": False, "error": {"code": code, "message": message}}
