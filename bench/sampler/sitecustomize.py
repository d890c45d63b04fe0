"""Where a process spends its processor time: loaded by every Python of a gateway that the bench profiles.

A thread looks every 5 ms at what each other thread executes and gives it the processor time that the thread
has had since. A call into C counts for the Python line that made it. At the end the sums go into
``$BENCH_PROFILE/PID.json``. Nothing of the product knows of this.
"""

import atexit
import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

EVERY_S = 0.005


def _sample(own: dict[str, float], whole: dict[str, float]) -> None:
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
            own[_name(top)] += cost
            frame: FrameType | None = top
            seen = set()
            while frame is not None:
                seen.add(_name(frame))
                frame = frame.f_back
            for name in seen:
                whole[name] += cost


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"


def _begin(folder: Path) -> None:
    own: dict[str, float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    threading.Thread(target=_sample, args=(own, whole), name="sampler", daemon=True).start()

    def tell() -> None:
        said = {"command": sys.argv, "cpu_s": time.process_time(), "own": dict(own), "whole": dict(whole)}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(said))

    atexit.register(tell)


if folder := os.environ.get("BENCH_PROFILE"):
    _begin(Path(folder))
