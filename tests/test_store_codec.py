"""What goes into the journal's columns comes out the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.decoding import decode
from devices.readings import Address, Channel, Flag, Reading
from devices.topics import Lane, Route, Topics
from edge.store import codec
from edge.store.errors import JournalDamaged
from edge.store.inputs import Inputs
from rules.decisions import Acknowledge, CatchingUp, Close, Input, Listening
from tests.store_samples import alarm, readings_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INT64 = st.integers(-(2**63), 2**64 - 1)
TIME = st.integers(0, 2**48)
SCALAR = st.booleans() | INT64 | st.floats(allow_nan=False) | TEXT
JSON = st.recursive(
    st.none() | SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)

READINGS = st.builds(
    Reading,
    channel=st.sampled_from(Channel),
    address=st.builds(Address, TEXT),
    values=st.dictionaries(TEXT, SCALAR, max_size=5),
    source_time=TIME,
    received_at=TIME,
    flags=st.integers(0, 15),
    id=st.none() | TEXT,
    ts=st.none() | INT64 | st.floats(allow_nan=False) | TEXT,
    extra=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
)
INPUTS: st.SearchStrategy[Input] = (
    READINGS
    | st.builds(Acknowledge, TEXT, TEXT, TEXT, TIME)
    | st.builds(Close, TEXT, TEXT, TEXT, TIME)
    | st.builds(Listening, st.booleans(), TIME)
    | st.builds(CatchingUp, st.booleans(), TIME)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(INPUTS, max_size=20), st.lists(st.tuples(TEXT, st.integers(0, 2**32 - 1), TIME), max_size=5))
def test_inputs_and_message_ids_come_back_as_they_were(
    inputs: list[Input], recent: list[tuple[str, int, int]]
) -> None:
    blob = codec.encode_inputs(Inputs(inputs), recent)
    assert codec.decode_inputs(blob) == inputs
    assert [type(each) for each in codec.decode_inputs(blob)] == [type(each) for each in inputs]
    assert codec.decode_recent(blob)[1] == recent


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(Lane), unique=True),
    st.dictionaries(
        st.sampled_from(Lane),
        st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 2**32 - 1)), min_size=1),
    ),
)
def test_packet_marks_come_back_by_lane_in_order(
    begun: list[Lane], pairs: dict[Lane, list[tuple[int, int]]]
) -> None:
    marks = {lane: [number for pair in each for number in pair] for lane, each in pairs.items()}
    blob = codec.encode_packets(begun, marks)
    if blob is None:
        assert not begun
        assert not marks
        return
    found = codec.decode_packets(blob)
    assert {lane for lane, began, _ in found if began} == set(begun)
    assert {lane: some for lane, _, some in found if some} == marks


def test_a_number_beyond_64_bits_never_fails_a_commit() -> None:
    huge = Reading(Channel.TELEMETRY, Address("c1/charger/a"), {"energy": 10**30}, 1, 1)
    good = readings_of(1, 1)[0]
    restored = codec.decode_inputs(codec.encode_inputs(Inputs([huge, good]), []))
    assert isinstance(restored[0], Reading)
    assert restored[0].values == {"energy": 1e30}
    assert restored[1] == good


def test_any_unknown_field_that_decoding_lets_through_can_be_kept() -> None:
    route = Topics("community", "c1").route("community/c1/charger/a/telemetry")
    assert isinstance(route, Route)
    payload = b'{"energy": 1.0, "deep": ' + b"[" * 600 + b"]" * 600 + b', "x": [-1' + b"0" * 400 + b"]}"
    odd = decode(route, payload, 1)
    assert codec.decode_inputs(codec.encode_inputs(Inputs([odd]), [])) == [odd]


def test_an_alarm_comes_back_as_it_was() -> None:
    assert codec.decode_alarm(codec.encode_alarm(alarm(7))) == alarm(7)


def test_flags_survive_as_flags() -> None:
    told = Reading(
        Channel.STATUS, Address("c1/smoke/a"), {"state": "offline"}, 1, 1, Flag.RETAINED | Flag.UNREGISTERED
    )
    restored = codec.decode_inputs(codec.encode_inputs(Inputs([told]), []))[0]
    assert isinstance(restored, Reading)
    assert restored.retained


def test_states_of_many_devices_shrink_together() -> None:
    devices = [
        (Address(f"c1/smoke/sm{n:04}"), b"state of a smoke sensor, number %d" % n) for n in range(2_000)
    ]
    blob = codec.encode_devices(devices)
    assert codec.decode_devices(blob) == devices
    assert len(blob) < sum(len(address) + len(state) for address, state in devices) / 3


@pytest.mark.parametrize("damage", [b"", b"\x02abc", b"\x01abc"])
def test_a_damaged_value_is_an_error_of_the_store(damage: bytes) -> None:
    for decode_ in (
        codec.decode_inputs,
        codec.decode_recent,
        codec.decode_devices,
        codec.decode_packets,
        codec.decode_alarm,
    ):
        with pytest.raises(JournalDamaged):
            decode_(damage)


def test_a_batch_of_50_readings_takes_less_than_60_bytes_a_reading() -> None:
    assert len(codec.encode_inputs(Inputs(readings_of(1, 50)), [])) < 50 * 60


def test_a_flipped_bit_never_changes_an_alarm_unnoticed() -> None:
    blob = codec.encode_alarm(alarm(1))
    for place in range(len(blob)):
        for bit in range(8):
            flipped = bytearray(blob)
            flipped[place] ^= 1 << bit
            with pytest.raises(JournalDamaged):
                codec.decode_alarm(bytes(flipped))
