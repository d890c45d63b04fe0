"""What else the machine did while a bench ran: the first thing to look at when a figure surprises."""

import os
import resource
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Neighbours:
    """Begins with its construction. Only what has been waited for counts as ours, so ask at the end."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy_s = _busy_s()
        self._ours_s = _ours_s()

    def share(self) -> float:
        """Processor time that others took since then, in per cent of all cores."""
        spent = (_busy_s() - self._busy_s) - (_ours_s() - self._ours_s)
        room = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, 100 * spent / room)


def _busy_s() -> float:
    """Processor seconds of the whole machine since it started, stolen ones included."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _ours_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
