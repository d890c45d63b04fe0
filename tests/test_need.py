"""What a batch holds while the store is in need."""

import pytest

from devices.documents import parse_yaml
from devices.readings import Address, Channel, Reading
from devices.registry import Registry
from devices.topics import Topics
from edge.committing.need import ALL_KNOWN, UNSTORED_SINCE, Need
from edge.committing.snapshots import Snapshots
from edge.committing.storing import Flight
from edge.intake import Intake
from edge.store.inputs import Inputs
from edge.store.records import Batch
from rules.decisions import ClockUntrusted, Input
from rules.engine import Engine
from rules.files import parse

NOW = 1_790_000_000_000
BEFORE, NOW_TOLD = ClockUntrusted(NOW - 60_000), ClockUntrusted(NOW - 1)
SAID = Reading(Channel.TELEMETRY, Address("c1/smoke/s1"), {"smoke": False}, NOW, NOW)


@pytest.fixture
def need() -> Need:
    engine = Engine(parse([("rules.yaml", parse_yaml("rules: []", "rules.yaml"))]), site="c1", node="gw-1")
    intake = Intake(engine, engine.new_state(), Topics("community", "c1"), Registry())
    engine.step(intake.state, SAID, NOW)
    need = Need(intake, Snapshots(intake), last_now=NOW - 90_000)
    need.owed.add(Batch(0, now=NOW - 60_000, inputs=Inputs([BEFORE, SAID])))
    return need


def flight(*given: Input) -> Flight:
    return Flight(Batch(0, now=NOW, inputs=Inputs(given)))


def test_without_room_readings_are_counted_and_the_engines_time_stands_still(need: Need) -> None:
    reduced = flight(NOW_TOLD, SAID)
    need.prepare(reduced)
    assert list(reduced.batch.inputs) == [BEFORE, NOW_TOLD]
    assert need.owed.readings.count == 2
    assert (reduced.batch.now, reduced.batch.positions[UNSTORED_SINCE]) == (NOW - 90_000, NOW)


def test_the_batch_that_climbs_holds_all_once_a_snapshot_and_the_gap(need: Need) -> None:
    need.climbing = need.whole = True
    climbing = flight(NOW_TOLD, SAID)
    need.prepare(climbing)
    assert list(climbing.batch.inputs) == [BEFORE, NOW_TOLD, SAID]
    assert climbing.batch.snapshot is not None
    assert [address for address, _ in climbing.batch.snapshot.devices] == ["c1/smoke/s1"]
    assert [(gap.lane, gap.count) for gap in climbing.batch.gaps] == [("readings", 1)]
    assert climbing.batch.positions[UNSTORED_SINCE] == 0


def test_the_batch_that_climbs_tells_the_next_run_of_every_message_that_may_be_said_again(need: Need) -> None:
    intake = need._intake  # noqa: SLF001 - what it remembers
    assert not intake.recent.is_repeat(
        "@1789999990123", 7, NOW - 9_000
    )  # heard while nothing could be stored
    assert not intake.recent.is_repeat("m1", 8, NOW)
    need.climbing = True
    climbing = flight(SAID)
    climbing.batch.recent = [("m1", 8, NOW)]
    need.prepare(climbing)
    assert climbing.batch.recent == [("@1789999990123", 7, NOW - 9_000), ("m1", 8, NOW)]


def test_a_climb_that_fails_leaves_everything_owed_but_the_readings_which_count(need: Need) -> None:
    need.climbing = True
    climbing = flight(SAID)
    need.prepare(climbing)
    climbing.batch.seq = 7
    need.reduce_again(climbing)
    assert list(climbing.batch.inputs) == [BEFORE]
    assert climbing.batch.gaps == []
    assert climbing.batch.snapshot is None
    assert (need.doubts, need.owed.readings.count) == ([7], 2)
    need.written(climbing.batch, landed=[7])  # it was on disk after all, and its gap with it
    assert (need.doubts, need.owed.readings.count) == ([], 0)


def test_a_good_end_without_room_says_that_all_is_known(need: Need) -> None:
    need.ending = True
    last = flight(SAID)
    need.prepare(last)
    assert last.batch.positions[UNSTORED_SINCE] == ALL_KNOWN
    assert [gap.count for gap in last.batch.gaps] == [2]
