"""Waiting for what another thread, process or task brings about: no test pauses anywhere else.

What happens in the test's own thread is awaited by its event. `PATIENCE_S` is spent only where something is
wrong, so it is generous: a slow machine is no fault. A promise about time names a bound of its own.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

PATIENCE_S = 30.0
EVERY_S = 0.02

T = TypeVar("T")


def looks(timeout_s: float, every_s: float = EVERY_S) -> Iterator[None]:
    """A turn to look, again and again; the last one after the time is over."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        yield
        time.sleep(every_s)
    yield


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S, every_s: float = EVERY_S) -> T:
    """What ``condition`` gives as soon as it is true."""
    for _ in looks(timeout_s, every_s):
        if found := condition():
            return found
    raise AssertionError(f"it did not happen within {timeout_s:g} s")


async def until(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """The same while the loop goes on; raises `TimeoutError`."""
    async with asyncio.timeout(timeout_s):
        while not (found := condition()):
            await asyncio.sleep(EVERY_S / 4)
    return found
