"""Where a process spends its processor time: loaded by every Python of a gateway that the bench profiles.

A thread looks every 5 ms at what each other thread executes and gives it the processor time that the thread
has had since. A call into C counts for the Python line that made it. At the end the sums go into
``$ANLIN_BENCH_PROFILE/PID.json``. Nothing of the product knows of this.
"""

import atexit
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

EVERY_S = 0.005


def _sample(own: Counter[str], whole: Counter[str]) -> None:
    me = threading.get_ident()
    spent: dict[int, float] = {}
    while True:
        time.sleep(EVERY_S)
        for thread, top in sys._current_frames().items():  # noqa: SLF001 - what it is there for
            if thread == me:
                continue
            try:
                now = time.clock_gettime(time.pthread_getcpuclockid(thread))
            except OSError:
                continue  # it has ended
            cost = now - spent.get(thread, now)
            spent[thread] = now
            if not cost:
                continue
            seen = set()
            frame = top
            own[_name(frame.f_code.co_filename, frame.f_code.co_qualname)] += cost  # type: ignore[assignment]  # seconds
            while frame is not None:
                seen.add(_name(frame.f_code.co_filename, frame.f_code.co_qualname))
                frame = frame.f_back  # type: ignore[assignment]  # None ends it
            for name in seen:
                whole[name] += cost  # type: ignore[assignment]  # seconds


def _name(path: str, function: str) -> str:
    parts = Path(path).parts
    return f"{'/'.join(parts[-2:])}:{function}"


def _begin(folder: Path) -> None:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    threading.Thread(target=_sample, args=(own, whole), name="sampler", daemon=True).start()

    def tell() -> None:
        said = {"command": sys.argv, "cpu_s": time.process_time(), "own": dict(own), "whole": dict(whole)}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(said))

    atexit.register(tell)


if folder := os.environ.get("ANLIN_BENCH_PROFILE"):
    _begin(Path(folder))
