"""A fault of decoding or of the engine costs the message or delay that it lies in, nothing else, live and in replay."""

import asyncio
from pathlib import Path

import pytest

from devices.decoding import decode
from devices.readings import Reading
from devices.topics import Route
from edge.store.reader import JournalReader
from rules.definitions import Rule
from rules.dues import Dues
from rules.judge import Judge
from rules.state import Device, State
from tests.node_world import World, ahead, caught_up, node_world
from tests.waiting import until

POISON = 66.6


class Faulty:
    """An engine that fails at one value, after the rules before have raised what they raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = True
        judge = Judge.judge

        def failing(
            judging: Judge, state: State, device: Device, rule: Rule, *args: object, **named: object
        ) -> None:
            judge(judging, state, device, rule, *args, **named)  # type: ignore[arg-type]
            if self.on and device.points.get("temperature") == POISON:
                raise ZeroDivisionError("a fault of the engine")

        monkeypatch.setattr(Judge, "judge", failing)


def smoke(value: float) -> bytes:
    return b'{"smoke": true, "temperature": %g}' % value


def boards(world: World) -> set[str]:
    return {alarm.device for alarm in world.node.board.values() if alarm.kind == "smoke"}


def test_a_message_at_which_the_engine_fails_is_kept_whole_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Faulty(monkeypatch)

    async def story() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/before/telemetry", smoke(20), 1)
            world.say("smoke/broken/telemetry", smoke(POISON), 2)
            world.say("smoke/after/telemetry", smoke(20), 3)
            await until(lambda: boards(world) >= {"before", "after"})
            intake = world.node.intake
            assert (intake.counts["undecided"], intake.counts["rejected.undecided"]) == (1, 1)
            assert "a fault of the engine" in intake.undecided
            acknowledged = [number for link in world.played.values() for _, number in link.acknowledged]
            assert sorted(acknowledged) == [1, 2, 3]
            # What the rules before the fault have raised is not lost.
            assert "broken" in boards(world)
        with JournalReader(world.journal.path) as reader:
            (kept,) = reader.quarantine(10)
        assert (kept.reason, kept.payload) == ("undecided", smoke(POISON))
        assert kept.topic.endswith("smoke/broken/telemetry")
        assert {reading.address for reading in world.readings()} == {"c1/smoke/before", "c1/smoke/after"}
        async with node_world(tmp_path) as again:  # the restart does not fail at it
            assert boards(again) == {"before", "broken", "after"}

    asyncio.run(story())


def test_a_message_at_which_decoding_fails_is_kept_whole_and_its_lane_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(route: Route, payload: bytes, *rest: object) -> Reading:
        if payload == smoke(POISON):
            raise OverflowError("a fault of the decoder")
        return decode(route, payload, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("edge.intake.decode", failing)

    async def story() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/broken/telemetry", smoke(POISON), 1)
            world.say("smoke/after/telemetry", smoke(20), 2)
            await until(lambda: boards(world) == {"after"})
            intake = world.node.intake
            assert (intake.counts["undecided"], intake.counts["rejected.undecided"]) == (1, 1)
            assert "a fault of the decoder" in intake.undecided
            acknowledged = [number for link in world.played.values() for _, number in link.acknowledged]
            assert sorted(acknowledged) == [1, 2]
        with JournalReader(world.journal.path) as reader:
            (kept,) = reader.quarantine(10)
        assert (kept.reason, kept.payload) == ("undecided", smoke(POISON))

    asyncio.run(story())


def test_a_delay_at_which_the_engine_fails_costs_neither_the_message_after_it_nor_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_due = Dues._check_silence  # noqa: SLF001 - the fault is put where the rule's own would be

    def failing(dues: Dues, state: State, device: Device, rule: Rule, due: int) -> None:
        if device.address.endswith("/broken"):
            raise ZeroDivisionError("a fault of the engine")
        take_due(dues, state, device, rule, due)

    monkeypatch.setattr(Dues, "_check_silence", failing)

    async def story() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            await caught_up(world)
            world.say("charger/broken/telemetry", b'{"temperature": 20}', 1)
            world.say("charger/well/telemetry", b'{"temperature": 20}', 2)
            ahead(world.node.clock, 3_600_000)  # an hour of silence for both
            world.say("smoke/after/telemetry", smoke(20), 3)
            await until(lambda: boards(world) == {"after"})
            await until(lambda: [one for one in world.node.board.values() if one.device == "well"])
            assert world.node.intake.counts["undecided"] >= 1
            assert world.node.intake.counts["rejected"] == 0
        async with node_world(tmp_path) as again:
            assert boards(again) == {"after"}

    asyncio.run(story())


def test_an_order_of_a_person_at_which_the_engine_fails_is_refused_and_not_journaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("a fault of the engine")

    async def story() -> None:
        async with node_world(tmp_path) as world:
            world.connect()
            world.say("smoke/sm1/telemetry", smoke(20), 1)
            await until(lambda: boards(world))
            (alarm,) = world.node.board.values()
            with monkeypatch.context() as broken:
                broken.setattr("rules.board.Board.acknowledge", failing)
                with pytest.raises(Exception, match="the engine failed"):
                    await world.node.people.acknowledge(alarm.id, "Wang", "on my way")
            acked = await world.node.people.acknowledge(alarm.id, "Wang", "on my way")
            assert acked is not None
            assert acked.acked_by == "Wang"

    asyncio.run(story())
