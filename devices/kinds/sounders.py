"""What makes itself heard: sirens and broadcast speakers."""

from msgspec import UNSET, Struct, UnsetType

from devices.kinds.commands import Command
from devices.kinds.traits import Kind


class SounderTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """A siren or a broadcast speaker."""

    sounding: bool | UnsetType = UNSET
    fault: bool | UnsetType = UNSET


_COMMANDS = {
    "sound": Command(args={"tone": str, "text": str, "seconds": int}),
    "silence": Command(),
}

SIREN = Kind("siren", SounderTelemetry, commands=_COMMANDS)
BROADCAST = Kind("broadcast", SounderTelemetry, commands=_COMMANDS)
