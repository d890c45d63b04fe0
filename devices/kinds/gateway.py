"""The gateway itself, as a kind of device: its figures and what is wrong with it, for rules to judge."""

from msgspec import UNSET, Struct, UnsetType

from devices.kinds.measures import Count
from devices.kinds.traits import Kind


class GatewayTelemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """What the gateway knows of itself; never heard on the wire (``gateway`` is a reserved word there).

    Counts are since the start of the node.
    """

    uptime: Count | UnsetType = UNSET
    """Seconds."""
    received: Count | UnsetType = UNSET
    rejected: Count | UnsetType = UNSET
    duplicates: Count | UnsetType = UNSET
    devices: Count | UnsetType = UNSET
    alarms: Count | UnsetType = UNSET
    """Standing."""
    cloud_behind: Count | UnsetType = UNSET
    """Readings and alarm changes not yet stored in the cloud."""
    unregistered_refused: Count | UnsetType = UNSET
    """Messages of unregistered devices beyond the limit, not evaluated."""

    # The reasons of health (docs/health.md), each true while it is so.
    broker_away: bool | UnsetType = UNSET
    broker_dropped: bool | UnsetType = UNSET
    broker_limits: bool | UnsetType = UNSET
    session_lost: bool | UnsetType = UNSET
    cannot_decide: bool | UnsetType = UNSET
    store_failing: bool | UnsetType = UNSET
    store_reduced: bool | UnsetType = UNSET
    store_damaged: bool | UnsetType = UNSET
    cannot_publish: bool | UnsetType = UNSET
    clock_untrusted: bool | UnsetType = UNSET
    device_throttled: bool | UnsetType = UNSET
    web_down: bool | UnsetType = UNSET
    bridge_down: bool | UnsetType = UNSET
    cloud_away: bool | UnsetType = UNSET
    cloud_refuses: bool | UnsetType = UNSET
    history_failing: bool | UnsetType = UNSET
    unregistered_limit: bool | UnsetType = UNSET
    tracks_refused: bool | UnsetType = UNSET


GATEWAY = Kind("gateway", GatewayTelemetry, on_wire=False)
