"""The alarm button of an elderly resident, and how it tells that a person is alive and well."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from devices.kinds.commands import Command
from devices.kinds.measures import LinkQuality, Percent
from devices.kinds.traits import Activity, Kind


class ButtonTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """The alarm button of an elderly resident."""

    battery: Percent | UnsetType = UNSET
    battery_low: bool | UnsetType = UNSET
    linkquality: LinkQuality | UnsetType = UNSET
    worn: bool | UnsetType = UNSET
    activity: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    """Motions counted since the last message."""


class ButtonEvent(Struct, frozen=True, forbid_unknown_fields=True):
    """A press."""

    action: Literal["emergency", "cancel", "test", "check_in"]


BUTTON = Kind(
    "button",
    ButtonTelemetry,
    event=ButtonEvent,
    commands={"confirm": Command(), "prompt": Command(args={"text": str}, required=("text",))},
    activity=Activity("activity", "worn", events=frozenset({"action"})),
    derived={"inactive_for": "inactive_for()", "usual_gap": "usual_gap()"},
    private=frozenset({"activity", "worn"}),
)
