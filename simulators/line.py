"""The way of a message from a device to the broker, and what goes wrong on it.

A clock that is wrong, messages that come twice, late, in another order, broken or not at all. Pure: a device's
payload goes in, what arrives and how much later comes out; the same seed gives the same accidents.
"""

import math
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from simulators.device import FOREVER, Parameter

YEAR_S = 366 * 86_400.0
WEEK_S = 7 * 86_400.0

LINE_FAULTS: Mapping[str, Mapping[str, Parameter]] = MappingProxyType(
    {
        "clock": {"by": Parameter(3_600, -YEAR_S, YEAR_S), "for": FOREVER},
        "duplicate": {
            "share": Parameter(1, 0, 1, "share"),
            "copies": Parameter(1, 1, 100, ""),
            "apart": Parameter(1, 0, WEEK_S),
            "for": FOREVER,
        },
        "reorder": {"share": Parameter(0.5, 0, 1, "share"), "by": Parameter(5, 0, WEEK_S), "for": FOREVER},
        "delay": {"by": Parameter(30, 0, WEEK_S), "for": FOREVER},
        "corrupt": {"share": Parameter(1, 0, 1, "share"), "for": FOREVER},
        "lossy": {"share": Parameter(0.5, 0, 1, "share"), "for": FOREVER},
    }
)
"""Faults of every device that are not in the device."""

_NONSENSE = (b"", b"\xff\xfe\x00", b"NaN", b"[]", b'{"temperature":{}', b'"offline"', b'{"ts":[]}')


class Line:
    """The line of one device."""

    __slots__ = ("_faults", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faults: dict[str, tuple[float, Mapping[str, float]]] = {}

    def happen(self, name: str, parameters: Mapping[str, float], now_s: float) -> None:
        """Begin one of `LINE_FAULTS`, or end all of them (``none``)."""
        if name == "none":
            self._faults.clear()
            return
        known = LINE_FAULTS[name]
        given = {key: parameters.get(key, parameter.default) for key, parameter in known.items()}
        self._faults[name] = (now_s + given["for"], given)

    def _fault(self, name: str, now_s: float) -> Mapping[str, float] | None:
        if name not in self._faults:
            return None
        until_s, given = self._faults[name]
        if now_s < until_s:
            return given
        del self._faults[name]
        return None

    def skew_ms(self, now_s: float) -> int:
        """How far ahead the device's clock is."""
        wrong = self._fault("clock", now_s)
        return 0 if wrong is None else round(wrong["by"] * 1_000)

    def carry(self, payload: bytes, now_s: float) -> Iterator[tuple[float, bytes]]:
        """What arrives of ``payload`` and how many seconds later: nothing, once or several times."""
        if not self._faults:
            yield 0.0, payload
            return
        rng = self._rng
        if (lossy := self._fault("lossy", now_s)) is not None and rng.random() < lossy["share"]:
            return
        later_s = 0.0
        if (delay := self._fault("delay", now_s)) is not None:
            later_s = delay["by"]
        if (reorder := self._fault("reorder", now_s)) is not None and rng.random() < reorder["share"]:
            later_s += rng.uniform(0, reorder["by"])
        if (corrupt := self._fault("corrupt", now_s)) is not None and rng.random() < corrupt["share"]:
            payload = self._broken(payload)
        yield later_s, payload
        double = self._fault("duplicate", now_s)
        if double is not None and rng.random() < double["share"]:
            for number in range(1, math.floor(double["copies"]) + 1):
                yield later_s + number * double["apart"], payload

    def _broken(self, payload: bytes) -> bytes:
        """Cut off, or nonsense: what no decoder can take for a message."""
        if self._rng.random() < len(_NONSENSE) / (len(_NONSENSE) + 3):
            return self._rng.choice(_NONSENSE)
        return payload[: self._rng.randrange(1, max(2, len(payload) - 1))]
