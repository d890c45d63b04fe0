"""Section 2 of the contract: what a device may say, what is refused, what time is believed."""

import json
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.decoding import AHEAD_MS, BEHIND_MS, PAYLOAD_LIMIT, Reason, Rejected, decode
from devices.kinds import KINDS
from devices.readings import Channel, Flag, Reading
from devices.topics import Route, Topics

NOW = 1_790_000_000_000
TOPICS = Topics("community", "c1")


def route(kind: str, what: str = "telemetry") -> Route:
    found = TOPICS.route(f"community/c1/{kind}/d1/{what}")
    assert isinstance(found, Route)
    return found


def say(kind: str, payload: object, what: str = "telemetry", *, buffers: bool = False) -> Reading:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decode(route(kind, what), raw, NOW, buffers=buffers)


def refusal(kind: str, payload: object, what: str = "telemetry") -> Reason:
    with pytest.raises(Rejected) as caught:
        say(kind, payload, what)
    return caught.value.reason


GOOD: list[tuple[str, str, dict[str, object]]] = [
    ("charger", "telemetry", {"voltage": 221.4, "current": 3, "power": 640.2, "energy": 1.25, "temperature": -40}),
    ("charger", "telemetry", {"leakage": 1000, "status": "SuspendedEVSE", "error": "GroundFailure", "session": "a1"}),
    ("smoke", "telemetry", {"smoke": True, "density": 0.31, "temperature": 22, "battery": 100, "battery_low": False,
                            "tamper": False, "test": False, "muted": True, "fault": False,
                            "contamination": "critical", "end_of_life": False, "linkquality": 255}),
    ("button", "telemetry", {"battery": 0, "battery_low": True, "linkquality": 0, "worn": True, "activity": 12}),
    ("button", "event", {"action": "emergency"}),
    ("button", "event", {"action": "check_in"}),
    ("elevator", "telemetry", {"door": "open", "floor": -2, "blocking": False, "fire_recall": False, "stream": "lost"}),
    ("elevator", "event", {"type": "new", "track": "t1", "label": "ebike", "score": 1}),
    ("elevator", "event", {"type": "end", "track": "t1"}),
    ("siren", "telemetry", {"sounding": True, "fault": False}),
    ("broadcast", "telemetry", {"sounding": False}),
    ("charger", "command/result", {"command_id": "01J", "status": "done", "detail": "cut"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "what", "payload"), GOOD)
def test_everything_in_the_contract_is_understood(kind: str, what: str, payload: dict[str, object]) -> None:
    reading = say(kind, payload, what)
    assert reading.values == payload
    assert (reading.source_time, reading.received_at, reading.flags, reading.extra) == (NOW, NOW, 0, None)


BAD: list[tuple[str, str, object, Reason]] = [
    ("charger", "telemetry", {"voltage": 500.1}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"voltage": -0.1}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"current": 101}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"power": 20_001}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"energy": -1}, Reason.BAD_VALUE),
    ("charger", "telemetry", b'{"energy": 1e999}', Reason.MALFORMED),
    ("charger", "telemetry", b'{"energy": NaN}', Reason.MALFORMED),
    ("charger", "telemetry", b'{"energy": 1%s}' % (b"0" * 400), Reason.BAD_VALUE),
    ("charger", "telemetry", {"temperature": 201}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"temperature": "41"}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"temperature": True}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"leakage": 1001}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"status": "charging"}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"error": "TooHot"}, Reason.BAD_VALUE),
    ("smoke", "telemetry", {"smoke": 1}, Reason.BAD_VALUE),
    ("smoke", "telemetry", {"density": 10.5}, Reason.BAD_VALUE),
    ("smoke", "telemetry", {"battery": 101}, Reason.BAD_VALUE),
    ("smoke", "telemetry", {"contamination": "bad"}, Reason.BAD_VALUE),
    ("smoke", "telemetry", {"linkquality": 256}, Reason.BAD_VALUE),
    ("button", "event", {"action": "help"}, Reason.BAD_VALUE),
    ("button", "event", {}, Reason.BAD_VALUE),
    ("elevator", "telemetry", {"floor": 1.5}, Reason.BAD_VALUE),
    ("elevator", "telemetry", {"door": "ajar"}, Reason.BAD_VALUE),
    ("elevator", "event", {"type": "new", "label": "ebike", "score": 0.5}, Reason.BAD_VALUE),
    ("elevator", "event", {"type": "new", "track": "t", "label": "dog", "score": 0.5}, Reason.BAD_VALUE),
    ("elevator", "event", {"type": "new", "track": "t", "label": "ebike", "score": 1.1}, Reason.BAD_VALUE),
    ("charger", "command/result", {"command_id": "x", "status": "maybe"}, Reason.BAD_VALUE),
    ("charger", "telemetry", b"", Reason.MALFORMED),
    ("charger", "telemetry", b"{", Reason.MALFORMED),
    ("charger", "telemetry", b"[" * 100_000, Reason.MALFORMED),
    ("charger", "telemetry", b'{"session": "\xff"}', Reason.BAD_UTF8),
    ("charger", "telemetry", b"[1]", Reason.NOT_AN_OBJECT),
    ("charger", "telemetry", b"null", Reason.NOT_AN_OBJECT),
    ("charger", "telemetry", b'{"session": "%s"}' % (b"x" * PAYLOAD_LIMIT), Reason.TOO_LARGE),
    ("charger", "telemetry", {"temperature": 20, "id": ["x"]}, Reason.BAD_VALUE),
    ("charger", "telemetry", {"temperature": 20, "ts": True}, Reason.BAD_TIME),
    ("charger", "telemetry", b'{"temperature": 20, "ts": %s}' % (b"9" * 4_301), Reason.MALFORMED),
    ("charger", "telemetry", {"temperature": 20, "ts": {"at": NOW}}, Reason.BAD_TIME),
    ("charger", "status", b"on", Reason.BAD_STATUS),
    ("charger", "status", b'{"state": 1}', Reason.BAD_STATUS),
]


@pytest.mark.parametrize(("kind", "what", "payload", "reason"), BAD)
def test_wrong_types_and_impossible_values_reject_the_message(
    kind: str, what: str, payload: object, reason: Reason
) -> None:
    assert refusal(kind, payload, what) is reason


def test_a_null_is_an_absent_point() -> None:
    assert say("charger", {"temperature": None, "power": 3}).values == {"power": 3}


def test_unknown_fields_are_kept_beside_the_reading() -> None:
    reading = say("charger", {"temperature": 20, "vendor": {"rssi": -70}, "fw": "1.2"})
    assert (reading.values, reading.extra) == ({"temperature": 20}, {"fw": "1.2", "vendor": {"rssi": -70}})


@pytest.mark.parametrize("payload", [b"online", b" online\n", b'{"state": "online"}'])
def test_a_status_comes_plain_or_as_json(payload: bytes) -> None:
    assert say("smoke", payload, "status").values == {"state": "online"}


@pytest.mark.parametrize(
    ("stamp", "believed"),
    [
        (NOW, NOW),
        (float(NOW - 5), NOW - 5),
        (NOW + AHEAD_MS, NOW + AHEAD_MS),
        (NOW - BEHIND_MS, NOW - BEHIND_MS),
        ("2026-09-21T14:13:19.500Z", NOW - 500),
        ("2026-09-21T22:13:19.500+08:00", NOW - 500),
    ],
)
def test_a_credible_time_is_the_source_time(stamp: object, believed: int) -> None:
    reading = say("charger", {"temperature": 20, "ts": stamp})
    assert (reading.source_time, reading.flags, reading.ts) == (believed, 0, None)


@pytest.mark.parametrize(
    "stamp",
    [
        NOW + AHEAD_MS + 1,
        NOW - BEHIND_MS - 1,
        0,
        -1,
        NOW // 1000,
        10**18,
        1e300,
        "1970-01-01T00:00:00Z",
        2**70,
        "2026-09-21T14:13:20",
        "2026-09-21T14:13:60Z",
        "yesterday",
        "",
    ],
)
def test_an_incredible_time_is_flagged_and_kept_and_the_arrival_counts(stamp: float | str) -> None:
    reading = say("charger", {"temperature": 20, "ts": stamp})
    assert (reading.source_time, reading.flags) == (NOW, Flag.CLOCK_DOUBTED)
    assert reading.ts == pytest.approx(stamp) if not isinstance(stamp, str) else reading.ts == stamp


@pytest.mark.parametrize("sign", [b"", b"-"])
def test_a_time_that_no_float_can_hold_is_an_incredible_time(sign: bytes) -> None:
    reading = say("smoke", b'{"smoke": true, "ts": %s%s}' % (sign, b"9" * 4_299))
    assert (reading.values, reading.source_time, reading.flags) == ({"smoke": True}, NOW, Flag.CLOCK_DOUBTED)
    assert reading.ts == (-sys.float_info.max if sign else sys.float_info.max)


def test_of_a_text_that_is_no_time_the_beginning_is_kept() -> None:
    assert say("charger", {"temperature": 20, "ts": "x" * 100_000}).ts == "x" * 64


def test_a_device_that_buffers_is_believed_further_back_and_shown_as_late() -> None:
    old = NOW - 26 * 3_600_000
    reading = say("charger", {"temperature": 20, "ts": old}, buffers=True)
    assert (reading.source_time, reading.flags) == (old, Flag.LATE)


def test_a_message_id_may_be_text_or_a_number() -> None:
    assert say("charger", {"temperature": 20, "id": "m1"}).id == "m1"
    assert say("charger", {"temperature": 20, "id": 7}).id == "7"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS.keys() - {"gateway"})), st.binary(max_size=200))
def test_any_bytes_give_a_reading_or_a_reason(kind: str, payload: bytes) -> None:
    try:
        reading = say(kind, payload)
    except Rejected:
        return
    assert reading.channel is Channel.TELEMETRY


huge = st.integers(18, 4_000).map(lambda digits: 10**digits) | st.sampled_from(
    [2**64, -(2**63) - 1, -(10**400)]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | huge | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["temperature", "smoke", "ts", "id", "action", "track", "status", "x"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(KINDS.keys() - {"gateway"})),
    st.dictionaries(names, json_values, max_size=5),
)
def test_any_json_gives_a_reading_or_a_reason_and_known_points_only(
    kind: str, payload: dict[str, object]
) -> None:
    try:
        reading = say(kind, json.dumps(payload).encode())
    except Rejected:
        return
    assert reading.values.keys() <= set(KINDS[kind].telemetry.__struct_fields__)
    assert all(isinstance(value, bool | int | float | str) for value in reading.values.values())


WORDS = [True, False, None, "x", "open", "Charging", "NoError", "critical", "ok", "emergency"]


def points() -> list[str]:
    return sorted({name for kind in KINDS.values() for name in kind.telemetry.__struct_fields__})


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(KINDS.keys() - {"gateway"})),
    st.dictionaries(
        st.sampled_from([*points(), "id", "ts"]),
        st.integers(-50, 600) | st.floats(-50, 600) | st.sampled_from(WORDS),
        max_size=6,
    ),
)
def test_an_unknown_field_changes_nothing_of_what_is_known(kind: str, payload: dict[str, object]) -> None:
    def outcome(told: dict[str, object]) -> object:
        try:
            reading = say(kind, told)
        except Rejected as rejected:
            return rejected.reason
        return repr(msgspec.structs.replace(reading, extra=None))  # so that 1, 1.0 and true are three things

    assert outcome(payload) == outcome(payload | {"unknown": 1})
