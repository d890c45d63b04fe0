"""``python -m tests.chaos.storm``: thousands of devices that come back within seconds, as after a power cut.

Each connects, says that it is online and what it measures, and stays until all are there. Prints one JSON
object: when it began, and the numbers of the measurements that the broker acknowledged, with the time (Unix ms)
of it.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from functools import partial

import mqtt5
from mqtt5 import PublishPacket, QoS

from tests.chaos.wires import HOST, PREFIX

PATIENCE_S = 20.0
STORM_NUMBERS = 1_000_000_000
"""Where the numbers of a storm's messages begin, times its own number."""


class Device(asyncio.Protocol):
    """One device: connects, says two things and stays; ``acknowledged`` is when its measurement was taken."""

    def __init__(self, number: int, over: "asyncio.Future[None]") -> None:
        self._number = number
        self._over = over
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.acknowledged: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Everything in one write, as small modems do."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name, token = f"storm{self._number % STORM_NUMBERS}", self._number
        base = f"{PREFIX}/smoke/{name}"
        will = mqtt5.Will(f"{base}/status", payload=b"offline", qos=QoS.AT_LEAST_ONCE, retain=True)
        said = json.dumps({"smoke": False, "battery": 90, "n": token, "id": f"m{token}"}).encode()
        transport.write(
            mqtt5.ConnectPacket(name, clean_start=True, will=will, keep_alive=60).write()
            + PublishPacket(
                f"{base}/status", b"online", qos=QoS.AT_LEAST_ONCE, retain=True, packet_id=1
            ).write()
            + PublishPacket(f"{base}/telemetry", said, qos=QoS.AT_LEAST_ONCE, packet_id=2).write()
        )

    def data_received(self, data: bytes) -> None:
        """Look for the acknowledgement of the measurement."""
        self._buffer += data
        while self._buffer:
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                return
            self._buffer = self._buffer[size:]
            if isinstance(packet, mqtt5.PubAckPacket) and packet.packet_id == 2:
                self.acknowledged = time.time_ns() // 1_000_000
                self._end()

    def connection_lost(self, _error: Exception | None) -> None:
        """Without an acknowledgement it was cut off, and nothing is known."""
        self._end()

    def leave(self) -> None:
        """In order, so that its will is not told."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._transport.close()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


async def storm(port: int, count: int, first: int, within_s: float) -> dict[int, int]:
    """All of them; what was acknowledged, by number."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    devices: list[Device] = []
    ends: list[asyncio.Future[None]] = []
    connecting: set[asyncio.Task[object]] = set()
    for each in range(count):
        if (ahead := begun + each / count * within_s - loop.time()) > 0:
            await asyncio.sleep(ahead)
        over = loop.create_future()
        device = Device(first + each, over)
        devices.append(device)
        ends.append(over)
        connecting.add(loop.create_task(loop.create_connection(partial(_same, device), HOST, port)))
    refused = await asyncio.gather(*connecting, return_exceptions=True)
    for failed, over in zip(refused, ends, strict=True):
        if isinstance(failed, OSError) and not over.done():
            over.set_result(None)
    await asyncio.wait(ends, timeout=PATIENCE_S)
    for device in devices:
        device.leave()
    return {
        first + each: device.acknowledged
        for each, device in enumerate(devices)
        if device.acknowledged is not None
    }


def _same(device: Device) -> Device:
    return device


def main() -> int:
    """Reconnect; 0 when it is over."""
    parser = argparse.ArgumentParser(description="Thousands of devices that reconnect within seconds.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=8_000)
    parser.add_argument("--first", type=int, required=True, help="number of the first measurement")
    parser.add_argument("--within-s", type=float, default=5.0)
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    begun = time.time_ns() // 1_000_000
    said = asyncio.run(storm(arguments.port, arguments.count, arguments.first, arguments.within_s))
    sys.stdout.write(json.dumps({"begun": begun, "acknowledged": said}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
