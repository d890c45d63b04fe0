"""A charging port of a shed: the vocabulary of OCPP 1.6, and how a session shows in it."""

from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from devices.kinds.commands import Command
from devices.kinds.measures import Celsius, Text
from devices.kinds.traits import Kind, Rate, Session


class ChargePointStatus(StrEnum):
    """OCPP 1.6 StatusNotification ``status``."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EVSE = "SuspendedEVSE"
    SUSPENDED_EV = "SuspendedEV"
    FINISHING = "Finishing"
    RESERVED = "Reserved"
    UNAVAILABLE = "Unavailable"
    FAULTED = "Faulted"


class ChargePointError(StrEnum):
    """OCPP 1.6 StatusNotification ``errorCode``."""

    CONNECTOR_LOCK_FAILURE = "ConnectorLockFailure"
    EV_COMMUNICATION_ERROR = "EVCommunicationError"
    GROUND_FAILURE = "GroundFailure"
    HIGH_TEMPERATURE = "HighTemperature"
    INTERNAL_ERROR = "InternalError"
    LOCAL_LIST_CONFLICT = "LocalListConflict"
    NO_ERROR = "NoError"
    OTHER_ERROR = "OtherError"
    OVER_CURRENT_FAILURE = "OverCurrentFailure"
    OVER_VOLTAGE = "OverVoltage"
    POWER_METER_FAILURE = "PowerMeterFailure"
    POWER_SWITCH_FAILURE = "PowerSwitchFailure"
    READER_FAILURE = "ReaderFailure"
    RESET_FAILURE = "ResetFailure"
    UNDER_VOLTAGE = "UnderVoltage"
    WEAK_SIGNAL = "WeakSignal"


class ChargerTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """One charging port."""

    voltage: Annotated[float, Meta(ge=0, le=500, extra_json_schema={"unit": "V"})] | UnsetType = UNSET
    current: Annotated[float, Meta(ge=0, le=100, extra_json_schema={"unit": "A"})] | UnsetType = UNSET
    power: Annotated[float, Meta(ge=0, le=20_000, extra_json_schema={"unit": "W"})] | UnsetType = UNSET
    energy: Annotated[float, Meta(ge=0, extra_json_schema={"unit": "kWh"})] | UnsetType = UNSET
    temperature: Celsius | UnsetType = UNSET
    leakage: Annotated[float, Meta(ge=0, le=1_000, extra_json_schema={"unit": "mA"})] | UnsetType = UNSET
    status: ChargePointStatus | UnsetType = UNSET
    error: ChargePointError | UnsetType = UNSET
    session: Text | UnsetType = UNSET


CHARGER = Kind(
    "charger",
    ChargerTelemetry,
    commands={
        "cut_power": Command(),
        "restore_power": Command(automatic=False, undoes="cut_power"),
    },
    rates={"temperature_rate": Rate("temperature")},
    session=Session(
        under_way=frozenset({"Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}),
        free=frozenset({"Available", "Preparing", "Reserved"}),
        cut=frozenset({"SuspendedEVSE", "Unavailable", "Faulted"}),
        sated=frozenset({"SuspendedEV"}),
        done=frozenset({"Finishing"}),
    ),
    derived={
        name: f"{name}()"
        for name in (
            "session_age",
            "session_energy",
            "session_flat_for",
            "session_full_for",
            "session_peak",
            "session_phase",
            "session_restarted",
            "session_rising",
            "session_warming",
            "usual_session_energy",
        )
    },
)
