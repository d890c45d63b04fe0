"""Lines: what leaves the building, in which form, and what never does."""

import re
from collections.abc import Mapping
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.lines import Lines
from devices.decoding import decode
from devices.kinds import KINDS
from devices.readings import Address, Channel, Flag, Reading, Scalar
from devices.topics import Route, Topics
from edge.store.records import Gap, GapReason
from rules.alarms import Alarm, AlarmChange, AlarmState, Severity, Transition
from rules.decisions import Acknowledge, Input, Listening

NOW = 1_790_000_000_123
PLACES = {
    "c1/charger/shed1-p07": {"building": "shed-1"},
    "c1/smoke/sm0007": {"building": "3", "unit": "2", "floor": "11", "room": "1102", "household": "h-0311"},
}


def place_of(address: Address) -> Mapping[str, str]:
    return PLACES.get(address, {})


def lines(*, forward_activity: bool = False) -> Lines:
    return Lines("c1", "gw-1", place_of, forward_activity=forward_activity)


def reading(
    address: str,
    values: dict[str, Scalar],
    channel: Channel = Channel.TELEMETRY,
    at: int = NOW,
    flags: int = 0,
) -> Reading:
    return Reading(channel, Address(address), values, at, NOW + 2, flags)


def telemetry(address: str, payload: bytes) -> Reading:
    """As it comes off the wire."""
    route = Topics("community", "c1").route(f"community/{address}/telemetry")
    assert isinstance(route, Route)
    return decode(route, payload, NOW)


def alarm(**facts: object) -> Alarm:
    usual: dict[str, object] = {
        "id": "01JABCDEFGHJKMNPQRSTVWXYZ0",
        "key": "smoke-alarm:c1/smoke/sm0007",
        "rule": "smoke-alarm",
        "severity": Severity.CRITICAL,
        "site": "c1",
        "node": "gw-1",
        "kind": "smoke",
        "device": "sm0007",
        "place": dict(PLACES["c1/smoke/sm0007"]),
        "text": {"en": "Smoke at Mrs Li's", "zh": "李奶奶家有烟"},
        "values": {"density": 0.31},
        "source_time": NOW,
        "received_at": NOW,
        "first_raised_at": NOW,
        "raised_at": NOW,
    }
    return Alarm(**{**usual, **facts})  # type: ignore[arg-type]  # checked by the tests that look at it


# --- an independent reader of the line protocol -----------------------------------------------------------


class Point:
    """One line read back by the letter of InfluxDB's documentation."""

    def __init__(self, line: bytes) -> None:
        text = line.decode()
        assert "\n" not in text
        head, *rest = _split(text, " ", quotes=False)
        fields, at = _split(" ".join(rest), " ")
        self.at = int(at)
        measurement, *tags = _split(head, ",", quotes=False)
        self.measurement = _plain(measurement)
        self.tags = {name: _plain(value) for name, value in map(_pair, tags)}
        self.fields = {name: _value(value) for name, value in (_pair(part) for part in _split(fields, ","))}
        assert len(self.tags) == len(tags), "a tag twice"
        assert all(self.tags.values()), "an empty tag"


def _split(text: str, mark: str, *, quotes: bool = True) -> list[str]:
    """At every ``mark`` that is neither escaped nor inside quotes, which mean nothing in tags."""
    parts = [""]
    quoted, letters = False, iter(text)
    for letter in letters:
        if letter == "\\":
            parts[-1] += letter + next(letters, "")
        elif letter == mark and not quoted:
            parts.append("")
        else:
            quoted ^= quotes and letter == '"'
            parts[-1] += letter
    return parts


def _pair(text: str) -> tuple[str, str]:
    name, *values = _split(text, "=", quotes=False)
    return _plain(name), "=".join(values)


def _plain(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def _value(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        assert text.endswith('"')
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    return float(text)


def points(written: list[bytes]) -> list[Point]:
    return [Point(line) for line in written]


def cleaned(text: str) -> str:
    return "".join(" " if ord(letter) < 0x20 or letter == "\x7f" else letter for letter in text)


# --- what a reading becomes -------------------------------------------------------------------------------


def test_a_charger_reading_is_one_line_with_its_place_and_event_time() -> None:
    said = telemetry(
        "c1/charger/shed1-p07",
        b'{"ts": 1790000000000, "voltage": 221.5, "current": 3, "temperature": 41.25, "status": "Charging"}',
    )
    (line,) = lines().readings([said])
    assert line == (
        b"charger,site=c1,device=shed1-p07,building=shed-1 "
        b'voltage=221.5,current=3,temperature=41.25,status="Charging",status_code=2 1790000000000'
    )


def test_booleans_stay_booleans_and_a_device_without_place_has_no_building() -> None:
    (point,) = points(
        lines().readings([telemetry("c1/smoke/sm9", b'{"smoke": true, "muted": false, "battery": 93}')])
    )
    assert point.tags == {"site": "c1", "device": "sm9"}
    assert point.fields == {"smoke": True, "muted": False, "battery": 93.0}
    assert point.at == NOW


def test_an_event_is_a_point_of_its_kind_with_codes_beside_texts() -> None:
    event = reading(
        "c1/elevator/lift-1", {"type": "new", "track": "t-1", "label": "ebike", "score": 0.9}, Channel.EVENT
    )
    (point,) = points(lines().readings([event]))
    assert point.measurement == "elevator"
    assert point.fields == {
        "type": "new",
        "type_code": 0,
        "track": "t-1",
        "track_code": crc32(b"t-1"),
        "label": "ebike",
        "label_code": 0,
        "score": 0.9,
    }


def test_statuses_results_and_orders_of_people_are_no_points() -> None:
    inputs: list[Input] = [
        reading("c1/smoke/sm0007", {"state": "offline"}, Channel.STATUS),
        reading("c1/charger/p1", {"command_id": "1", "status": "done"}, Channel.RESULT),
        Acknowledge("01J", "Mrs Li", "coming", NOW),
        Listening(on=True, at=NOW),
    ]
    assert lines().readings(inputs) == []


def test_a_retained_reading_is_a_point_only_where_its_own_time_is_believed() -> None:
    old = reading("c1/smoke/sm0007", {"smoke": False}, at=NOW - 5_000, flags=Flag.RETAINED)
    undated = reading("c1/smoke/sm0007", {"smoke": False}, at=NOW + 2, flags=Flag.RETAINED)
    doubted = reading(
        "c1/smoke/sm0007", {"smoke": False}, at=NOW + 2, flags=Flag.RETAINED | Flag.CLOCK_DOUBTED
    )
    assert [point.at for point in points(lines().readings([old, undated, doubted]))] == [NOW - 5_000]


def test_the_gateways_own_reading_has_site_and_node() -> None:
    said = reading("c1/gateway/gw-1", {"unregistered_refused": 3, "queue": 0.5, "note": "text stays"})
    (point,) = points(lines().readings([said]))
    assert (point.measurement, point.tags) == ("gateway", {"site": "c1", "node": "gw-1"})
    assert point.fields == {"unregistered_refused": 3.0, "queue": 0.5}


def test_a_gap_says_what_was_lost() -> None:
    gap = Gap(at=NOW, lane="bulk", count=120, from_ms=NOW - 9, to_ms=NOW - 1, reason=GapReason.JOURNAL_FULL)
    point = Point(lines().gap(gap))
    assert (point.measurement, point.at) == ("gap", NOW)
    assert point.tags == {"site": "c1", "node": "gw-1", "lane": "bulk"}
    assert point.fields["count"] == 120
    assert (point.fields["from"], point.fields["to"]) == (NOW - 9, NOW - 1)
    assert point.fields["reason"] == "journal_full"
    assert isinstance(point.fields["reason_code"], float)


def test_the_codes_of_texts_never_change() -> None:
    """A stored code must mean the same for ever: these lists may only grow at their end."""
    ocpp = ["Available", "Preparing", "Charging", "SuspendedEVSE", "SuspendedEV", "Finishing", "Reserved"]
    assert _codes("charger", "status", [*ocpp, "Unavailable", "Faulted"]) == list(range(9))
    errors = ["ConnectorLockFailure", "EVCommunicationError", "GroundFailure", "HighTemperature"]
    errors += ["InternalError", "LocalListConflict", "NoError", "OtherError", "OverCurrentFailure"]
    errors += ["OverVoltage", "PowerMeterFailure", "PowerSwitchFailure", "ReaderFailure", "ResetFailure"]
    assert _codes("charger", "error", [*errors, "UnderVoltage", "WeakSignal"]) == list(range(16))
    assert _codes("smoke", "contamination", ["normal", "low", "warning", "critical"]) == [0, 1, 2, 3]
    assert _codes("elevator", "door", ["open", "closed"]) == [0, 1]
    assert _codes("elevator", "stream", ["ok", "lost"]) == [0, 1]
    events = Channel.EVENT
    assert _codes("button", "action", ["emergency", "cancel", "test", "check_in"], events) == [0, 1, 2, 3]
    assert _codes("elevator", "type", ["new", "update", "end"], events) == [0, 1, 2]
    labels = ["ebike", "bicycle", "stroller", "wheelchair", "person"]
    assert _codes("elevator", "label", labels, events) == list(range(5))


def _codes(
    kind: str, name: str, values: list[str], channel: Channel = Channel.TELEMETRY
) -> list[Scalar | None]:
    readings = [reading(f"c1/{kind}/d", {name: value}, channel) for value in values]
    written = points(lines().readings(readings))
    assert [point.fields[name] for point in written] == values
    return [point.fields[f"{name}_code"] for point in written]


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.on_wire])
def test_every_point_of_every_kind_leaves_as_number_boolean_or_text_with_code(kind: str) -> None:
    """A new kind needs nothing here."""
    names = KINDS[kind].telemetry.__struct_fields__
    examples: dict[str, Scalar] = {name: _example(kind, name) for name in names}
    (point,) = points(lines(forward_activity=True).readings([reading(f"c1/{kind}/d", examples)]))
    assert {name: point.fields[name] for name in examples} == examples
    texts = {name for name, value in examples.items() if isinstance(value, str)}
    assert point.fields.keys() - examples.keys() == {f"{name}_code" for name in texts}


def _example(kind: str, name: str) -> Scalar:
    """A value that decoding admits for this point."""
    for value in ("true", "1", '"Charging"', '"NoError"', '"normal"', '"open"', '"ok"', '"s-1"'):
        try:
            return telemetry(f"c1/{kind}/d", f'{{"{name}": {value}}}'.encode()).values[name]
        except ValueError:
            continue
    raise AssertionError(f"{kind}.{name}: no example fits; add one")


# --- alarms -----------------------------------------------------------------------------------------------


def test_an_alarm_is_one_point_per_transition() -> None:
    raised = alarm()
    acked = alarm(acked_at=NOW + 12_500, acked_by="Mrs Li", comment="room 1102", version=2)
    cleared = alarm(acked_at=NOW + 12_500, cleared_at=NOW + 60_000, active=False, version=3)
    write = lines().alarm
    written = points(
        [
            write(AlarmChange(Transition.RAISED, raised, NOW)),
            write(AlarmChange(Transition.ACKED, acked, NOW + 12_500)),
            write(AlarmChange(Transition.CLEARED, cleared, NOW + 60_000)),
        ]
    )
    tags = {
        "site": "c1",
        "rule": "smoke-alarm",
        "severity": "critical",
        "kind": "smoke",
        "device": "sm0007",
        "building": "3",
    }
    assert [point.tags for point in written] == [
        {**tags, "transition": name} for name in ("raised", "acked", "cleared")
    ]
    assert [point.at for point in written] == [NOW, NOW + 12_500, NOW + 60_000]
    common = {"id": raised.id, "occurrences": 1.0}
    assert [point.fields for point in written] == [
        {**common, "state": "unacked", "state_code": 0.0},
        {**common, "state": "acked", "state_code": 1.0, "seconds_to_ack": 12.5},
        {**common, "state": "normal", "state_code": 8.0, "seconds_to_ack": 12.5, "seconds_to_clear": 60.0},
    ]


def test_the_codes_of_alarm_states_never_change() -> None:
    assert [str(state) for state in AlarmState] == [
        "unacked",
        "acked",
        "rtn_unacked",
        "latched_unacked",
        "latched_acked",
        "shelved",
        "suppressed",
        "out_of_service",
        "normal",
    ]


def test_delays_count_from_the_last_raise() -> None:
    again = alarm(raised_at=NOW + 50_000, cleared_at=NOW + 20_000, acked_at=NOW + 51_000, occurrences=2)
    point = Point(lines().alarm(AlarmChange(Transition.ACKED, again, NOW + 51_000)))
    assert point.fields["seconds_to_ack"] == 1.0
    assert "seconds_to_clear" not in point.fields


def test_transitions_in_one_millisecond_do_not_overwrite_each_other() -> None:
    write = lines().alarm
    presses = [AlarmChange(Transition.RERAISED, alarm(occurrences=n), NOW) for n in range(2, 12)]
    keys = {_series(Point(write(change))) for change in presses}
    assert len(keys) == len(presses)
    assert max(at for *_, at in keys) == NOW + 9


def test_events_of_one_device_in_one_millisecond_do_not_overwrite_each_other() -> None:
    tracks = [
        reading("c1/elevator/l1", {"type": "new", "track": f"t{n}", "label": "person"}, Channel.EVENT)
        for n in range(4)
    ]
    assert len({_series(point) for point in points(lines().readings(tracks))}) == 4


def test_a_flood_in_one_millisecond_is_never_moved_by_a_second() -> None:
    flood = [reading("c1/button/b1", {"action": "emergency"}, Channel.EVENT)] * 5_000
    assert max(point.at for point in points(lines().readings(flood))) == NOW + 999


def _series(point: Point) -> tuple[str, frozenset[tuple[str, str]], int]:
    return point.measurement, frozenset(point.tags.items()), point.at


# --- privacy ----------------------------------------------------------------------------------------------


def test_an_elders_daily_rhythm_stays_unless_it_is_allowed_to_leave() -> None:
    said = telemetry("c1/button/bt0042", b'{"battery": 80, "worn": true, "activity": 14}')
    (point,) = points(lines().readings([said]))
    assert point.fields == {"battery": 80.0}
    (point,) = points(lines(forward_activity=True).readings([said]))
    assert point.fields == {"battery": 80.0, "worn": True, "activity": 14.0}


def test_a_reading_of_private_points_alone_gives_no_line() -> None:
    assert lines().readings([telemetry("c1/button/bt0042", b'{"worn": true, "activity": 14}')]) == []


def test_unknown_fields_never_leave() -> None:
    said = telemetry("c1/charger/shed1-p07", b'{"power": 5, "rider": "Wang Fang", "phone": "13800000000"}')
    assert said.extra is not None
    (point,) = points(lines().readings([said]))
    assert point.fields == {"power": 5.0}


def test_a_field_that_the_kind_does_not_know_any_more_never_leaves() -> None:
    (point,) = points(lines().readings([reading("c1/charger/p1", {"power": 5.0, "rider": "Wang Fang"})]))
    assert point.fields == {"power": 5.0}
    assert lines().readings([reading("c1/vanished/p1", {"power": 5.0})]) == []


def test_a_text_where_a_number_belongs_never_leaves() -> None:
    """As an older version may have written it into the journal."""
    (point,) = points(lines().readings([reading("c1/charger/p1", {"power": "1,rider=2", "current": 1.5})]))
    assert point.fields == {"current": 1.5}


def test_a_text_where_a_number_belongs_takes_nothing_from_its_neighbours() -> None:
    said = [
        reading("c1/charger/p1", {"power": 5.0, "status": "Charging", "session": "s-1"}),
        reading("c1/charger/p2", {"power": "1,rider=2"}),
        reading("c1/smoke/sm9", {"smoke": False}),
    ]
    assert lines().readings(said) == [*lines().readings(said[:1]), *lines().readings(said[2:])]


def test_names_that_never_come_again_change_nothing() -> None:
    """What is remembered of names is bounded."""
    said = [reading("c1/charger/p1", {f"x{n}": 1, "power": n, "status": "Charging"}) for n in range(2_500)]
    written = lines().readings(said)
    assert len(written) == len(said)
    assert all(line.count(b"=") == 5 and b" power=%d," % n in line for n, line in enumerate(written))


def test_of_people_and_homes_nothing_but_the_building_leaves() -> None:
    write = lines()
    told = [
        *write.readings([telemetry("c1/smoke/sm0007", b'{"smoke": true, "id": "m-77"}')]),
        write.alarm(
            AlarmChange(
                Transition.ACKED,
                alarm(acked_by="Mrs Li", comment="call 13800000000", acked_at=NOW + 1),
                NOW + 1,
            )
        ),
    ]
    for line in told:
        for secret in ("1102", "h-0311", "Li", "138000", "unit", "floor", "李", "m-77", "household"):
            assert secret not in line.decode(), secret
        assert Point(line).tags["building"] == "3"


# --- escaping ---------------------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
awkward = st.text(st.sampled_from(list(' ,="\\\n\r\t{}:\x00\x01\x02\x03\x04\x7f李a')), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1)


@given(session=anything | awkward, status=st.sampled_from(["Charging", "Faulted"]), power=numbers)
def test_any_text_comes_back_as_it_was_but_for_control_characters(
    session: str, status: str, power: float
) -> None:
    values: dict[str, Scalar] = {"session": session, "status": status, "power": power}
    (point,) = points(lines().readings([reading("c1/charger/p1", values)]))
    assert point.fields["session"] == cleaned(session)
    assert point.fields["status"] == status
    assert point.fields["power"] == float(power)
    assert set(point.fields) == {"session", "session_code", "status", "status_code", "power"}


@given(building=anything | awkward, rule=awkward)
def test_any_tag_comes_back_as_it_was_but_for_control_characters_and_backslashes(
    building: str, rule: str
) -> None:
    change = AlarmChange(Transition.RAISED, alarm(place={"building": building}, rule=rule), NOW)
    point = Point(lines().alarm(change))
    for name, value in (("building", building), ("rule", rule)):
        assert point.tags.get(name, "") == cleaned(value).strip().replace("\\", "/")
    assert point.tags["transition"] == "raised"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=30), st.data())
def test_lines_after_a_restart_are_those_of_a_run_through(
    said: list[tuple[str, int]], data: st.DataObject
) -> None:
    events = [
        reading(f"c1/button/{device}", {"action": "test"}, Channel.EVENT, at=NOW + ms) for device, ms in said
    ]
    whole = lines().readings(events)
    cut = data.draw(st.integers(0, len(events)))
    after = lines()
    after.readings(events[:cut])
    assert after.readings(events[cut:]) == whole[cut:]
    assert len({_series(point) for point in points(whole)}) == len(whole)


def test_the_memory_for_devices_is_bounded_and_forgetting_changes_nothing() -> None:
    stream = [reading(f"c1/smoke/s{n % 100}", {"smoke": False}, at=NOW + n) for n in range(300)]
    small = Lines("c1", "gw-1", place_of, cache_limit=7)
    assert small.readings(stream) == lines().readings(stream)
