"""What a batch has judged, packed as it came."""

from hypothesis import given
from hypothesis import strategies as st

from devices.readings import Address, Channel, Reading
from edge.committing.owed import extend
from edge.store.inputs import Inputs
from edge.store.records import Batch
from rules.decisions import ClockStepped, ClockUntrusted, Input, Listening, time_of
from tests.store_samples import readings_of

NOW = 1_790_000_000_000
CLOCK: list[Input] = [ClockUntrusted(NOW - 5), ClockStepped(7, NOW + 5)]


def heard(number: int, at: int = NOW) -> list[Reading]:
    values = {"temperature": 20.5, "battery": 80}
    return [Reading(Channel.TELEMETRY, Address(f"c1/smoke/s{n}"), {**values}, at, at) for n in range(number)]


@given(st.lists(st.sampled_from([0, 1, 15, 16, 17, 300]), max_size=6))
def test_what_is_heard_in_one_go_is_packed_as_one_by_one(sizes: list[int]) -> None:
    together = Inputs()
    for number in sizes:
        together.heard(heard(number), NOW)
    assert together.packed() == Inputs(each for number in sizes for each in heard(number)).packed()
    assert len(together) == together.readings == len(list(together)) == sum(sizes)


def test_more_than_a_short_array_holds_comes_back_whole() -> None:
    many = Inputs()
    many.heard(heard(70_000), NOW)
    assert sum(1 for _ in many) == 70_000


def test_a_number_without_room_spoils_neither_its_reading_nor_the_others() -> None:
    few = heard(2)
    few[0].values["energy"] = 10**30
    inputs = Inputs()
    inputs.heard(few, NOW)
    first, second = inputs
    assert isinstance(first, Reading)
    assert first.values["energy"] == 1e30
    assert second == few[1]


def test_times_and_kinds_are_counted_on_the_way() -> None:
    given_: list[Input] = [*CLOCK, *readings_of(1, 3), Listening(on=True, at=NOW)]
    inputs = Inputs(given_)
    assert inputs.of_the_clock == CLOCK
    assert inputs.readings == 3
    assert (inputs.first_at, inputs.last_at) == (min(map(time_of, given_)), max(map(time_of, given_)))


@given(st.integers(0, 3), st.integers(0, 3))
def test_joined_they_are_as_if_given_in_turn(before: int, after: int) -> None:
    first, later = [*CLOCK, *heard(before, NOW)], [*heard(after, NOW - 9), *CLOCK]
    inputs = Inputs(first)
    inputs.join(Inputs(later))
    at_once = Inputs([*first, *later])
    assert list(inputs) == list(at_once)
    assert inputs.of_the_clock == at_once.of_the_clock
    assert (inputs.readings, inputs.first_at, inputs.last_at) == (
        at_once.readings,
        at_once.first_at,
        at_once.last_at,
    )


def test_of_a_later_batch_that_is_owed_only_the_clock_is_told_and_once() -> None:
    batch, later = Batch(0), Batch(0, inputs=Inputs([*CLOCK, *heard(3)]))
    extend(batch, later)
    assert list(batch.inputs) == CLOCK
    assert list(later.inputs) == [*CLOCK, *heard(3)]
