"""``python -m bench.counter``: the yardstick, a bare aiomqtt loop that only counts.

Subscribes to what the gateway subscribes to, says ``ready``, counts until it has ``--count`` messages and
prints its processor seconds for them.
"""

import argparse
import asyncio
import json
import sys
import time

import aiomqtt

from bench.community import PREFIX, SITE
from bench.wire import HOST
from devices.topics import Lane, Topics


async def count(port: int, wanted: int) -> float:
    """Processor seconds of this process for ``wanted`` messages."""
    topics = Topics(PREFIX, SITE)
    async with aiomqtt.Client(HOST, port, identifier="bench-counter") as client:
        for lane in Lane:
            for topic_filter in topics.filters(lane):
                await client.subscribe(topic_filter, qos=1)
        print("ready", flush=True)
        began = time.process_time()
        seen = 0
        async for _ in client.messages:
            seen += 1
            if seen == wanted:
                break
        return time.process_time() - began


def main() -> int:
    """Count and tell."""
    parser = argparse.ArgumentParser(description="Count messages with aiomqtt.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    print(json.dumps({"cpu_s": asyncio.run(count(arguments.port, arguments.count))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
