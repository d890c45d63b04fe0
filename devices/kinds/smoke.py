"""A smoke sensor."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from devices.kinds.commands import Command
from devices.kinds.measures import Celsius, LinkQuality, Percent
from devices.kinds.traits import Kind, Limited


class SmokeTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """A smoke sensor; one vocabulary over Matter, Zigbee2MQTT, Tuya and GB/T 26875.3 (docs/figures.md, A3)."""

    smoke: bool | UnsetType = UNSET
    density: Annotated[float, Meta(ge=0, le=10, extra_json_schema={"unit": "dB/m"})] | UnsetType = UNSET
    temperature: Celsius | UnsetType = UNSET
    battery: Percent | UnsetType = UNSET
    battery_low: bool | UnsetType = UNSET
    tamper: bool | UnsetType = UNSET
    test: bool | UnsetType = UNSET
    muted: bool | UnsetType = UNSET
    fault: bool | UnsetType = UNSET
    contamination: Literal["normal", "low", "warning", "critical"] | UnsetType = UNSET
    end_of_life: bool | UnsetType = UNSET
    linkquality: LinkQuality | UnsetType = UNSET


SMOKE = Kind(
    "smoke",
    SmokeTelemetry,
    commands={"mute": Command(automatic=False), "self_test": Command(automatic=False)},
    limited={"test": Limited(limit_s=600)},
    safety=True,
)
