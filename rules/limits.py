"""Limited points: a boolean that is believed for so long from its first true, and then counts as false."""

from collections.abc import Mapping

from devices.kinds.traits import Limited
from devices.readings import Scalar
from rules.deadlines import push_limited
from rules.state import Device, State


def limit(
    state: State, device: Device, limits: Mapping[str, Limited], values: Mapping[str, Scalar], now: int
) -> None:
    """Take the limited points among ``values``, said at ``now`` (Unix ms)."""
    for name, limited in limits.items():
        if name not in values:
            continue
        if not values[name]:
            device.limited.pop(name, None)
            continue
        limit_ms = int(limited.limit_s * 1000)
        since = device.limited.setdefault(name, now)
        if now >= since + limit_ms:
            device.points[name] = False
        elif since == now:
            push_limited(state, device, name, now + limit_ms)
