"""A line of a timeline that stands for many causes: again (``times``, ``every``), device by device (``apart``)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rules.language.entries import Entry
from simulators.causes import Cause
from simulators.device import Happening
from simulators.spans import span, whole

CAUSES_LIMIT = 20_000
"""In a story, and of one line."""


def written_out(entry: Entry, causes: Sequence[Cause]) -> Iterator[Cause]:
    """What ``entry`` says once, written out over its repetitions and its devices; faults go into the entry.

    A figure of a fault that is called as one of ours (``every`` of flapping) is the fault's.
    """
    own = {key for cause in causes if isinstance(cause.act, Happening) for key in cause.act.parameters}
    apart_s = 0.0 if "apart" in own else span(entry, "apart") or 0.0
    every_s = 0.0 if "every" in own else span(entry, "every") or 0.0
    times = whole(entry, "times", 1, CAUSES_LIMIT) or 1
    if apart_s and not all(cause.devices for cause in causes):
        entry.fault("apart", "needs devices: how long one after the other", value=entry.text("apart"))
        return
    if times > 1 and not every_s:
        entry.fault("times", "needs `every`: how long after each other", value=entry.text("times"))
        return
    most = max((len(cause.devices) for cause in causes), default=1) if apart_s else 1
    if times * len(causes) * max(1, most) > CAUSES_LIMIT:
        entry.fault(None, f"stands for more than {CAUSES_LIMIT} causes")
        return
    for turn in range(times):
        for cause in causes:
            moved = replace(cause, at_s=cause.at_s + turn * every_s)
            if turn:
                moved = replace(moved, label=None)
            if not apart_s:
                yield moved
                continue
            for place, device in enumerate(moved.devices):
                yield replace(
                    moved,
                    at_s=moved.at_s + place * apart_s,
                    devices=(device,),
                    who=device,
                    label=moved.label if not place else None,
                )
