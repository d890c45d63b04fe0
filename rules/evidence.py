"""What decided an alarm, gathered when it is raised: see `rules.explanation`."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from devices.kinds import KINDS
from devices.readings import Scalar
from rules.alarms import Alarm, rfc3339
from rules.definitions import Rule
from rules.explanation import SAMPLES_MOST, Explanation, Sample, Sway
from rules.state import Device, Ongoing
from rules.vocabulary import Sort

TEXT_MOST = 64
_INT64 = 2**63


def evidence(
    rule: Rule,
    device: Device,
    ongoing: Ongoing,
    values: Mapping[str, Scalar],
    so_at: int | None,
    before: Explanation | None,
) -> Explanation:
    """What ``rule`` saw of ``device``, as people may see it (``values``); ``before`` stands in the same alarm."""
    _, withheld = device.cooling.pop(rule.id, (0, 0))
    names = _names(rule)
    by_device = ongoing.told or device.last_seen != device.source_time == ongoing.since
    return Explanation(
        version=rule.version,
        when=None if rule.when is None else rule.when.source,
        clear=None if rule.clear is None else rule.clear.source,
        cancel=None if rule.cancel is None else rule.cancel.source,
        let={let.point.name: let.source for let in rule.lets},
        silent_for_ms=rule.silent_for_ms,
        for_ms=rule.for_ms,
        clear_for_ms=rule.clear_for_ms,
        clear_after_ms=rule.clear_after_ms,
        cooldown_ms=rule.cooldown_ms,
        active=None if rule.active is None else str(rule.active),
        escalate=tuple((rise.after_ms, rise.severity.value) for rise in rule.escalate),
        of_event=rule.when is not None and rule.when.uses_event,
        person=rule.waits_for_a_person or rule.latch,
        samples=tuple(_samples(rule, names[:SAMPLES_MOST], device, values)),
        left_out=max(0, len(names) - SAMPLES_MOST),
        since=(device.source_time or device.awaited_since or None)
        if rule.silent_for_ms is not None
        else ongoing.since,
        so_at=so_at,
        waited_ms=ongoing.wait,
        withheld=withheld if before is None else before.withheld + withheld,
        rises=() if before is None else before.rises,
        influences=() if before is None else before.influences,
        found=rule.silent_for_ms is None and ongoing.since is not None and not by_device,
    )


def keep_times(device: Device, shape: tuple[str, ...]) -> None:
    """The device says these points; `Device.source_time` is still that of its last message."""
    if shape != device.shape:
        device.told.update(dict.fromkeys(device.shape, device.source_time))
        device.shape = shape


def influenced(before: Alarm | None, alarm: Alarm, at: int) -> Alarm:
    """``alarm`` with what has begun or ceased to keep people from being told of it by itself, at ``at`` (Unix ms)."""
    why = alarm.why
    if why is None or not alarm.active:
        return alarm
    for what, was, by in (
        (Sway.SUPPRESSED, before and before.suppressed_by, alarm.suppressed_by),
        (Sway.FOLDED, before and before.folded_into, alarm.folded_into),
        (Sway.SHELVED, before and rfc3339(before.shelved_until), rfc3339(alarm.shelved_until)),
    ):
        if by != was:
            why = why.influenced(what, by, at) if by is not None else why.influenced(Sway.RELEASED, what, at)
    return alarm if why is alarm.why else replace(alarm, why=why)


def _names(rule: Rule) -> Sequence[str]:
    """What the condition looks at: the rule's own names first."""
    if rule.when is None:
        return ()
    lets = [let.point.name for let in rule.lets]
    return [*lets, *sorted(rule.when.names.difference(lets))]


def _samples(
    rule: Rule, names: Iterable[str], device: Device, values: Mapping[str, Scalar]
) -> Iterable[Sample]:
    hidden, sorts = set(KINDS[device.kind].private), dict[str, Sort]()
    for name, term in rule.terms.items():
        sorts[name] = term.point.sort
        if not hidden.isdisjoint(term.feeds):
            hidden.add(name)
    for let in rule.lets:
        sorts[let.point.name] = let.point.sort
        if let.point.private:
            hidden.add(let.point.name)
    for name in names:
        value = values.get(name)
        newest = name in device.shape or name not in device.told
        at = None if value is None else (device.source_time or None) if newest else device.told[name]
        lasting = sorts.get(name) is Sort.DURATION
        yield Sample(name, _small(value), at, private=name in hidden, lasting=lasting)


def _small(value: Scalar | None) -> Scalar | None:
    """Bounded, and such that any store can hold it."""
    if isinstance(value, str) and len(value) > TEXT_MOST:
        return value[: TEXT_MOST - 1] + "…"
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return "a number beyond 64 bits"
    return value
