"""Where a process spends its processor time: loaded by every Python of a gateway that the bench profiles.

Each 5 ms of processor time the kernel interrupts the process; then each thread's frame is given what its
thread has spent since the last time. A call into C counts for the Python function that made it. At the end
the sums go into ``$BENCH_PROFILE/PID.json``. Nothing of the product knows of this.
"""

import atexit
import json
import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

EVERY_S = 0.005


class Sampler:
    """Takes the interrupts; ``own`` and ``whole`` are seconds by function, without and with its calls."""

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.whole: dict[str, float] = defaultdict(float)
        self._spent: dict[int, float] = {}

    def begin(self) -> None:
        """From now on."""
        signal.signal(signal.SIGPROF, self._take)
        signal.siginterrupt(signal.SIGPROF, False)  # noqa: FBT003 - the signal module's own signature
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def end(self, path: Path) -> None:
        """Write what was found."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        said = {"command": sys.argv, "cpu_s": time.process_time(), "own": self.own, "whole": self.whole}
        path.write_text(json.dumps(said))

    def _take(self, _number: int, interrupted: FrameType | None) -> None:
        for thread, frame in sys._current_frames().items():  # noqa: SLF001 - what it is there for
            try:
                now = time.clock_gettime(time.pthread_getcpuclockid(thread))
            except OSError:
                continue  # it has ended
            cost = now - self._spent.get(thread, now)
            self._spent[thread] = now
            ours = frame.f_code is Sampler._take.__code__
            if cost:
                self._count(interrupted if ours else frame, cost)

    def _count(self, frame: FrameType | None, cost: float) -> None:
        if frame is not None:
            self.own[_name(frame)] += cost
        names = set()
        while frame is not None:
            names.add(_name(frame))
            frame = frame.f_back
        for name in names:
            self.whole[name] += cost


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"


if folder := os.environ.get("BENCH_PROFILE"):
    sampler = Sampler()
    sampler.begin()
    atexit.register(sampler.end, Path(folder) / f"{os.getpid()}.json")
