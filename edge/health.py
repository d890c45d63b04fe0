"""What is wrong with the gateway, as a closed list with remedies (docs/health.md).

Each reason but a notice is a point of the gateway's own telemetry (`devices.kinds.gateway`) and raises
and clears an alarm of its own (rules/packs/gateway.yaml).
"""

from collections import Counter
from enum import StrEnum
from typing import Literal

import msgspec


class Code(StrEnum):
    """Every reason there is."""

    BROKER_AWAY = "broker_away"
    BROKER_DROPPED = "broker_dropped"
    BROKER_LIMITS = "broker_limits"
    SESSION_LOST = "session_lost"
    CANNOT_DECIDE = "cannot_decide"
    STORE_FAILING = "store_failing"
    STORE_REDUCED = "store_reduced"
    STORE_DAMAGED = "store_damaged"
    CANNOT_PUBLISH = "cannot_publish"
    CLOCK_UNTRUSTED = "clock_untrusted"
    DEVICE_THROTTLED = "device_throttled"
    WEB_DOWN = "web_down"
    BRIDGE_DOWN = "bridge_down"
    CLOUD_AWAY = "cloud_away"
    CLOUD_REFUSES = "cloud_refuses"
    HISTORY_FAILING = "history_failing"
    EMBEDDED_BROKER = "embedded_broker"
    RULES_DIFFER = "rules_differ"
    UNREGISTERED_LIMIT = "unregistered_limit"
    TRACKS_REFUSED = "tracks_refused"


FAILS = frozenset({Code.BROKER_AWAY, Code.CANNOT_DECIDE, Code.STORE_FAILING})
"""With one of these the gateway does not do its main work."""

NOTICES = frozenset({Code.EMBEDDED_BROKER, Code.RULES_DIFFER})
"""To know, but nothing is wrong: they degrade nothing and are no alarm."""

ALARMING = tuple(code for code in Code if code not in NOTICES)
"""The reasons that are points, and so alarms."""

REMEDIES = {
    Code.BROKER_AWAY: "start the broker, or correct mqtt.host, mqtt.port and the password; alarms wait until then",
    Code.BROKER_DROPPED: "give the broker the limits of deploy/mosquitto.conf; see `gap` for when and how many",
    Code.BROKER_LIMITS: "set max_inflight_messages as in deploy/mosquitto.conf; bursts wait for the disk until then",
    Code.SESSION_LOST: "switch on the broker's persistence as in deploy/mosquitto.conf; see `gap` for since when",
    Code.CANNOT_DECIDE: "restart the gateway and send its log to those who maintain it",
    Code.STORE_REDUCED: "free space on the disk of data_dir: only alarms are stored until then",
    Code.STORE_DAMAGED: "replace the disk or card; the damaged file lies beside the new one, see `gap`",
    Code.CANNOT_PUBLISH: "permit the gateway's user to write below its prefix in the broker's access control list",
    Code.CLOCK_UNTRUSTED: "let the gateway reach a time server, or set its clock; times are corrected then",
    Code.DEVICE_THROTTLED: "mend or unplug the device that the message names; all others are served",
    Code.STORE_FAILING: "free space on the disk of data_dir and see that it can be written",
    Code.WEB_DOWN: "see the log of the gateway; alarms are not touched by this",
    Code.BRIDGE_DOWN: "see the log of the gateway; readings are kept and forwarded later",
    Code.CLOUD_AWAY: "nothing to do here if the network is down: everything is kept and sent later",
    Code.CLOUD_REFUSES: "correct cloud.url, cloud.org, cloud.bucket or the token; everything is kept",
    Code.HISTORY_FAILING: "see the message and data_dir/history; readings stay in the journal as long as it has room",
    Code.EMBEDDED_BROKER: "use Mosquitto with deploy/mosquitto.conf in a property; this broker is for demos",
    Code.RULES_DIFFER: "the rules in force go on meanwhile; `anlin rules check` lists what is faulty",
    Code.TRACKS_REFUSED: "look at the lift's alarms: its camera ends no track; close them, mend the camera",
    Code.UNREGISTERED_LIMIT: "register the devices, or raise unregistered_max",
}


class Reason(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    code: Code
    message: str
    remedy: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the gateway, as ``GET /healthz`` hands it on."""

    status: Literal["ok", "degraded", "failed"]
    reasons: list[Reason]
    embedded_broker: bool
    version: str
    site: str
    node: str
    uptime_s: float
    cloud: dict[str, object] | None
    history: dict[str, object] | None
    counts: dict[str, int]


class Troubles:
    """What the parts of the node have found wrong and not yet right again; any part may say so."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        """What failed in a part that went on after it, by part; each is in the log."""
        self._messages: dict[Code, str] = {}

    def say(self, code: Code, message: str) -> None:
        """It is so, until `over`; a later message replaces the earlier."""
        self._messages[code] = message

    def over(self, code: Code) -> None:
        """It is so no more."""
        self._messages.pop(code, None)

    def reasons(self) -> "list[Reason]":
        """As reasons, in the order in which they came."""
        return [reason(code, message) for code, message in self._messages.items()]


class Lately:
    """Whether a count has grown within the last ``span_ms``: what only counts up is over some time after."""

    def __init__(self, count: int, span_ms: int) -> None:
        self._count = count
        self._span_ms = span_ms
        self._grew_at: int | None = None

    def grew(self, count: int, now_ms: int) -> bool:
        """With the count as it is now. One that is lower was begun anew, after a rebuild."""
        if count > self._count:
            self._grew_at = now_ms
        self._count = count
        return self._grew_at is not None and now_ms - self._grew_at < self._span_ms


def reason(code: Code, message: str) -> Reason:
    """A reason with its remedy."""
    return Reason(code, message, REMEDIES[code])


def status_of(reasons: list[Reason]) -> Literal["ok", "degraded", "failed"]:
    """Failed when the main work is not done; notices alone degrade nothing."""
    codes = {each.code for each in reasons}
    if codes & FAILS:
        return "failed"
    return "degraded" if codes - NOTICES else "ok"
