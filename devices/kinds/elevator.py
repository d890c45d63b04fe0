"""A lift car with its camera and contacts: Frigate's ``new``/``update``/``end`` tracks, and what must not ride."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from devices.kinds.commands import Command
from devices.kinds.measures import Ratio
from devices.kinds.traits import Following, Kind


class ElevatorTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """The camera in a lift car and the contacts beside it."""

    door: Literal["open", "closed"] | UnsetType = UNSET
    floor: Annotated[int, Meta(ge=-20, le=200)] | UnsetType = UNSET
    blocking: bool | UnsetType = UNSET
    """The door is being held."""
    fire_recall: bool | UnsetType = UNSET
    stream: Literal["ok", "lost"] | UnsetType = UNSET


class ElevatorEvent(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that the camera follows through the car."""

    type: Literal["new", "update", "end"]
    track: Annotated[str, Meta(min_length=1, max_length=64)]
    label: Literal["ebike", "bicycle", "stroller", "wheelchair", "person"] | UnsetType = UNSET
    score: Ratio | UnsetType = UNSET


ELEVATOR = Kind(
    "elevator",
    ElevatorTelemetry,
    event=ElevatorEvent,
    commands={
        "hold_door": Command(
            args={"seconds": int, "prompt": str},
            limits={"seconds": 120},
            only_if_false="fire_recall",
            taken_back_by="release_door",
        ),
        "release_door": Command(),
    },
    following=Following(
        "ebike",
        score=0.6,
        point="ebike",
        door="door",
        closed="closed",
        floor="floor",
        release="release_door",
    ),
)
