"""A ride as one incident: what a camera follows through a lift car, however often it loses sight of it.

A camera that loses and finds the same e-bike gives it a new track. Rules see the tracks of one incident as one, under
the name of the first. A track that ends behind a closed door has not left: the incident goes on until the door has
opened and closed again without it being seen, and whatever of its label is found in the meantime is the same one.
So is what is found before the door closes behind it. Where a lift tells nothing of its door, the end of a track is
the end. Nothing unseen is an incident for ever (`devices.kinds.traits.Following`).

How it ended is a fact of the incident and of its alarms: it left, it was pushed through (the car went to another
floor with it aboard), or staff released it.

Functions over one `Device`; moments are Unix ms, and none runs backwards by more than messages wait.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from devices.kinds.traits import INCIDENT_WORDS, Following
from devices.readings import Scalar
from rules.alarms import Outcome
from rules.state import Device, Incident

LOST = "lost:"
"""Begins the condition of a deadline of an incident out of sight; its name follows."""

INCIDENTS_MOST = 16
"""Of one device; further tracks are as the camera tells them."""

Fields = dict[str, Scalar]


@dataclass(slots=True)
class Told:
    """What follows from one input: for the rules, for alarms, for the door."""

    events: list[Fields] = field(default_factory=list)
    """As the rules are to see them, in order."""
    changed: list[str] = field(default_factory=list)
    """Incidents whose outcome is another one now."""
    eased: list[str] = field(default_factory=list)
    """Incidents out of sight for a while with the door open, or that a second look takes for something else: it need
    not be held for them any longer."""


def hear(device: Device, following: Following, event: Fields, now: int) -> Told:
    """Take what the camera tells of a track."""
    told = Told()
    track, ends = str(event["track"]), event["type"] == "end"
    name = _name_of(device, track)
    if name is None:
        if ends or not _is_followed(following, event) or len(device.incidents) >= INCIDENTS_MOST:
            told.events.append(event)
            return told
        name = _found_again(device) or track
    incident = device.incidents.setdefault(name, Incident({}))
    mistaken = _is_another(following, event)
    found_out = mistaken and not incident.eased
    incident.fields = event = {**event, "track": name}
    if not ends:
        if incident.seen or incident.lost is not None:
            event["type"] = "update"
        incident.seen = (*(each for each in incident.seen if each != track), track)[-INCIDENTS_MOST:]
        incident.lost = incident.shut = None
        incident.eased, incident.opened = mistaken, False
        told.events.append(event)
        if found_out:
            told.eased.append(name)
    else:
        incident.seen = tuple(each for each in incident.seen if each != track)
        if not incident.seen:
            _lose(device, following, name, now, told)
    return told


def move(device: Device, following: Following, values: Fields, now: int) -> Told:
    """Take what the lift tells of its door and floor; the device's points are as after it."""
    told = Told()
    door, floor = values.get(following.door), device.points.get(following.floor)
    for name, incident in device.incidents.items():
        aboard = _is_one(following, incident) and (incident.lost is None or not incident.opened)
        if aboard and incident.closed and incident.floor is not None and floor != incident.floor:
            if incident.outcome is None:
                incident.outcome = Outcome.FORCED
                told.changed.append(name)
        elif not incident.closed and isinstance(floor, int):
            incident.floor = floor  # door and camera overtake each other: it boards until the door closes
        if door is None:
            continue
        closed = door == following.closed
        incident.closed |= closed
        if incident.lost is not None:
            if not closed:
                incident.opened, incident.shut = True, None
            elif incident.opened and incident.shut is None:
                incident.shut = now
    return told


def expire(device: Device, following: Following, now: int) -> Told:
    """Take what was due by ``now``: an incident out of sight is eased, then over."""
    told = Told()
    for name, incident in device.incidents.items():
        due = due_of(following, incident)
        while due is not None and due <= now:
            if incident.opened and not incident.eased and incident.shut is None:
                incident.eased = True
                told.eased.append(name)
                due = due_of(following, incident)
            else:
                _end(name, incident, Outcome.LEFT if incident.opened else None, told)
                break
    return told


def due_names(device: Device, following: Following) -> Iterator[tuple[int, str]]:
    """When each incident out of sight is looked at next (Unix ms), with its name."""
    for name, incident in device.incidents.items():
        due = due_of(following, incident)
        if due is not None:
            yield due, name


def due_of(following: Following, incident: Incident) -> int | None:
    """When an incident out of sight is looked at next (Unix ms)."""
    if incident.lost is None or incident.over:
        return None
    if incident.shut is not None:
        return incident.shut + int(following.grace_s * 1000)
    if incident.opened and not incident.eased:
        return incident.lost + int(following.grace_s * 1000)
    return incident.lost + int(following.unseen_s * 1000)


def release(device: Device) -> Told:
    """Staff let it ride."""
    told = Told()
    for name, incident in device.incidents.items():
        if incident.outcome is None:
            incident.outcome = Outcome.RELEASED
            told.changed.append(name)
    return told


def outcome_of(device: Device, track: str | None) -> Outcome | None:
    """How the incident of a track ends or ended, as far as it is known."""
    incident = device.incidents.get(track) if track is not None else None
    return None if incident is None else incident.outcome


def show(device: Device, following: Following) -> None:
    """Forget what is over, once its alarms know, and bring the device's point up to date."""
    device.incidents = {name: each for name, each in device.incidents.items() if not each.over}
    outcomes = {each.outcome for each in device.incidents.values() if _is_one(following, each)}
    none, aboard, forced, released = INCIDENT_WORDS
    word = none
    if Outcome.FORCED in outcomes:
        word = forced
    elif None in outcomes:
        word = aboard
    elif outcomes:
        word = released
    device.points[following.point] = word


def _is_one(following: Following, incident: Incident) -> bool:
    return incident.fields.get("label", following.label) == following.label


def _is_followed(following: Following, event: Fields) -> bool:
    return event.get("label") == following.label and _is_sure(following, event)


def _is_another(following: Following, event: Fields) -> bool:
    """A look that takes it for what may ride."""
    return event.get("label", following.label) != following.label and _is_sure(following, event)


def _is_sure(following: Following, event: Fields) -> bool:
    score = event.get("score")
    return not isinstance(score, int | float) or score >= following.score


def _name_of(device: Device, track: str) -> str | None:
    return next((name for name, incident in device.incidents.items() if track in incident.seen), None)


def _found_again(device: Device) -> str | None:
    """The incident out of sight for the longest."""
    lost = [(each.lost, name) for name, each in device.incidents.items() if each.lost is not None]
    return min(lost)[1] if lost else None


def _lose(device: Device, following: Following, name: str, now: int, told: Told) -> None:
    incident = device.incidents[name]
    door = device.points.get(following.door)
    incident.lost = now
    incident.opened = door != following.closed
    if door is None or not _is_one(following, incident):
        _end(name, incident, None, told)


def _end(name: str, incident: Incident, outcome: Outcome | None, told: Told) -> None:
    incident.over = True
    incident.outcome = incident.outcome or outcome
    told.events.append({**incident.fields, "type": "end", "track": name})
