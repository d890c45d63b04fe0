"""What decided an alarm, gathered when it is raised: see `rules.explanation`."""

from collections.abc import Iterable

from devices.kinds import KINDS
from devices.readings import Scalar
from rules.definitions import Rule
from rules.explanation import SAMPLES_MOST, Explanation, Sample
from rules.state import Device, Ongoing

TEXT_MOST = 64
_INT64 = 2**63


def evidence(
    rule: Rule, device: Device, ongoing: Ongoing, so_at: int | None, before: Explanation | None
) -> Explanation:
    """What ``rule`` saw of ``device``; ``before`` is what stands in the same alarm."""
    names = sorted(rule.when.names) if rule.when is not None else []
    _, withheld = device.cooling.pop(rule.id, (0, 0))
    return Explanation(
        version=rule.version,
        when=None if rule.when is None else rule.when.source,
        clear=None if rule.clear is None else rule.clear.source,
        cancel=None if rule.cancel is None else rule.cancel.source,
        silent_for_ms=rule.silent_for_ms,
        for_ms=rule.for_ms,
        clear_for_ms=rule.clear_for_ms,
        clear_after_ms=rule.clear_after_ms,
        cooldown_ms=rule.cooldown_ms,
        active=None if rule.active is None else str(rule.active),
        escalate=tuple((rise.after_ms, rise.severity.value) for rise in rule.escalate),
        person=rule.waits_for_a_person or rule.latch,
        samples=tuple(_samples(names[:SAMPLES_MOST], device, ongoing)),
        left_out=max(0, len(names) - SAMPLES_MOST),
        since=(device.source_time or None) if rule.silent_for_ms is not None else ongoing.since,
        so_at=so_at,
        waited_ms=ongoing.wait,
        withheld=withheld if before is None else before.withheld + withheld,
        rises=() if before is None else before.rises,
        influences=() if before is None else before.influences,
    )


def _samples(names: Iterable[str], device: Device, ongoing: Ongoing) -> Iterable[Sample]:
    private = KINDS[device.kind].private
    fields = ongoing.fields or {}
    for name in names:
        at = device.told.get(name, device.source_time or None)
        if name in private:
            yield Sample(name, None, at, private=True)
            continue
        value = fields.get(name, device.points.get(name))
        yield Sample(name, _small(value), at if value is not None else None)


def _small(value: Scalar | None) -> Scalar | None:
    """Bounded, and such that any store can hold it."""
    if isinstance(value, str) and len(value) > TEXT_MOST:
        return value[: TEXT_MOST - 1] + "…"
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return "a number beyond 64 bits"
    return value
