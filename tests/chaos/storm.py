"""``python -m tests.chaos.storm``: thousands of devices that come back within seconds, as after a power cut.

Each connects, says that it is online and what it measures, and stays until all are there. Prints one JSON
object: the numbers of the measurements that the broker acknowledged, with the time (Unix ms) of it.
"""

import argparse
import asyncio
import json
import resource
import sys
import time

import mqtt5
from mqtt5 import PublishPacket, QoS

from tests.chaos.wires import HOST, PREFIX

PATIENCE_S = 20.0


async def device(
    port: int, number: int, token: int, after_s: float, everybody: asyncio.Barrier
) -> int | None:
    """One device; when the broker acknowledged its measurement, None if it did not."""
    await asyncio.sleep(after_s)
    name = f"storm{number}"
    acknowledged: int | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            base = f"{PREFIX}/smoke/{name}"
            will = mqtt5.Will(f"{base}/status", payload=b"offline", qos=QoS.AT_LEAST_ONCE, retain=True)
            said = json.dumps({"smoke": False, "battery": 90, "n": token, "id": f"m{token}"}).encode()
            writer.write(
                mqtt5.ConnectPacket(name, clean_start=True, will=will, keep_alive=60).write()
                + PublishPacket(
                    f"{base}/status", b"online", qos=QoS.AT_LEAST_ONCE, retain=True, packet_id=1
                ).write()
                + PublishPacket(f"{base}/telemetry", said, qos=QoS.AT_LEAST_ONCE, packet_id=2).write()
            )
            buffer = b""
            while acknowledged is None and (data := await reader.read(4_096)):
                buffer += data
                while buffer:
                    try:
                        packet, size = mqtt5.read(memoryview(buffer))
                    except IndexError:
                        break
                    buffer = buffer[size:]
                    if isinstance(packet, mqtt5.PubAckPacket) and packet.packet_id == 2:
                        acknowledged = time.time_ns() // 1_000_000
    except (OSError, TimeoutError):
        pass
    await everybody.wait()
    if writer is not None:
        writer.write(mqtt5.DisconnectPacket().write())
        writer.close()
    return acknowledged


async def storm(port: int, count: int, first: int, within_s: float) -> dict[int, int]:
    """All of them; what was acknowledged, by number."""
    everybody = asyncio.Barrier(count)
    begun = [device(port, each, first + each, each / count * within_s, everybody) for each in range(count)]
    done = await asyncio.gather(*begun)
    return {first + each: at for each, at in enumerate(done) if at is not None}


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
    sys.stdout.write(
        json.dumps(asyncio.run(storm(arguments.port, arguments.count, arguments.first, arguments.within_s)))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
