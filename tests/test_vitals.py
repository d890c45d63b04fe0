"""The gateway looks at itself: every reason raises and clears its alarm, whatever else is down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from devices.registry import Registry
from edge.committing.storing import Flight
from edge.condition import CloudReport, Condition
from edge.control import ControlServer, Request
from edge.control_client import request
from edge.desks.desk import STANDING_MOST, Desk
from edge.health import ALARMING, Code
from edge.mqtt.link import PublishRefusedError
from edge.refusals import Refusals
from edge.shell.reports import StatusReport, status_lines
from edge.store.records import Batch, Outgoing, OutgoingKind
from edge.vitals import HEALTH_S, OVERDUE_MS, STALL_S, STUCK_S, Vitals
from rules.alarms import Severity
from rules.judge import Judge
from tests.node_world import TOPICS, PlayedLink, World, ahead, node_world
from tests.waiting import until
from tests.web_world import alarm


class Child:
    """A process beside the node, as the desk sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = self.well = True


@asynccontextmanager
async def vital(folder: Path, *children: Child) -> AsyncIterator[tuple[World, Vitals, Desk]]:
    """A connected node and its vitals; the test takes the looks."""
    async with node_world(folder) as world:
        condition = Condition(
            world.node,
            children,  # type: ignore[arg-type]
            version="0",
            embedded_broker=False,
        )
        desk = Desk(world.node, Registry(), condition, refusals=Refusals(world.node, {}))
        world.connect()
        yield world, Vitals(world.node, condition), desk


def gateway_alarms(world: World) -> set[str]:
    return {
        alarm.rule for alarm in world.node.board.values() if alarm.kind == "gateway" and alarm.members is None
    }


def reasons(desk: Desk) -> set[Code]:
    return {each.code for each in desk.condition.reasons()}


def pass_time(world: World, seconds: float) -> None:
    """The node's clock goes ahead, and delays run out."""
    node = world.node
    ahead(node.clock, int(seconds * 1000))
    node.waking.tick()  # its timer counts real seconds


SAID = [
    code
    for code in ALARMING
    if code
    not in {
        Code.BROKER_AWAY, Code.STORE_FAILING, Code.WEB_DOWN, Code.BRIDGE_DOWN, Code.CLOUD_AWAY, Code.CLOUD_REFUSES,
        Code.CANNOT_DECIDE, Code.CANNOT_PUBLISH, Code.UNREGISTERED_LIMIT, Code.TRACKS_REFUSED,
    }
]  # fmt: skip
"""What other parts of the node say."""


def test_whatever_a_part_says_is_an_alarm_and_over_when_it_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, _):
            for code in SAID:
                world.node.troubles.say(code, "it is so")
            vitals.look()
            pass_time(world, 1_200)
            await until(lambda: len(gateway_alarms(world)) == len(SAID))
            for code in SAID:
                world.node.troubles.over(code)
            vitals.look()
            await until(lambda: all(not each.active for each in world.node.board.values()))
            assert {each.severity.value for each in world.node.board.values()} <= {
                "high"
            }  # wait for a person

    asyncio.run(story())


def test_only_a_change_is_told_and_the_figures_every_minute(tmp_path: Path) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, _):
            told: list[object] = []
            feel = world.node.feel
            world.node.feel = lambda values: (told.append(values), feel(values))[1]  # type: ignore[method-assign,func-returns-value]
            for _ in range(5):
                vitals.look()
            assert len(told) == 1
            world.node.troubles.say(Code.DEVICE_THROTTLED, "c1/smoke/sm1")
            for _ in range(5):
                vitals.look()
            assert len(told) == 2
            vitals._told_at = asyncio.get_running_loop().time() - HEALTH_S  # noqa: SLF001 - a minute ago
            vitals.look()
            assert len(told) == 3

    asyncio.run(story())


def test_processes_beside_the_node_and_the_cloud_raise_and_clear_theirs(tmp_path: Path) -> None:
    async def story() -> None:
        web, bridge = Child("web"), Child("bridge")
        async with vital(tmp_path, web, bridge) as (world, vitals, desk):
            web.well = bridge.well = False
            desk.condition.cloud = CloudReport("waiting", {}, error="no route to host")
            vitals.look()
            pass_time(world, 301)
            wanted = {"gateway-web-down", "gateway-bridge-down", "gateway-cloud-away"}
            await until(lambda: gateway_alarms(world) == wanted)
            web.well = bridge.well = True
            desk.condition.cloud = CloudReport("fix_needed", {}, error="401")
            vitals.look()
            pass_time(world, 61)
            await until(lambda: gateway_alarms(world) == {"gateway-cloud-refuses"})
            desk.condition.cloud = CloudReport("forwarding", {})
            vitals.look()
            await until(lambda: not gateway_alarms(world))

    asyncio.run(story())


def test_a_broker_away_for_half_a_minute_is_an_alarm_that_tells_of_itself_when_it_is_back(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, _):
            vitals.look()
            world.cut()
            vitals.look()
            pass_time(world, 29)
            assert gateway_alarms(world) == set()
            pass_time(world, 2)
            await until(lambda: gateway_alarms(world) == {"gateway-broker-away"})
            world.connect()
            vitals.look()
            await until(lambda: any(b'"rtn_unacked"' in payload for payload in world.told()))

    asyncio.run(story())


def test_a_failure_of_the_engine_is_a_reason_for_a_minute_and_an_alarm_until_somebody_has_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            vitals.look()
            with monkeypatch.context() as broken:
                broken.setattr(Judge, "judge", failing)
                world.say("smoke/sm1/telemetry", b'{"smoke": true}', 1)
            vitals.look()
            (found,) = desk.condition.reasons()
            assert (found.code, desk.condition.health().status) == (Code.CANNOT_DECIDE, "failed")
            assert "ZeroDivisionError: a fault of ours" in found.message
            await until(lambda: gateway_alarms(world) == {"gateway-cannot-decide"})
            pass_time(world, 61)
            vitals.look()
            assert reasons(desk) == set()
            await until(lambda: [one.state.value for one in world.node.board.values()] == ["rtn_unacked"])

    asyncio.run(story())


def test_what_failed_in_a_part_that_went_on_and_sessions_that_were_lost_are_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    async def figures(desk: Desk) -> set[str]:
        answer = await desk.answer(Request("metrics", 1), b"{}")
        return set(msgspec.json.decode(msgspec.json.encode(answer), type=dict[str, str])["text"].splitlines())

    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            assert not [each for each in await figures(desk) if each.startswith("anlin_failures_total")]
            world.cut()
            monkeypatch.setattr(vitals, "look", failing)
            looking = asyncio.create_task(vitals.run())
            await until(lambda: desk.condition.failures() == {"vitals": 1})
            looking.cancel()
            desk.condition.cloud = CloudReport("waiting", {}, failures=2)
            assert {
                'anlin_failures_total{part="vitals"} 1',
                'anlin_failures_total{part="bridge"} 2',
                'anlin_broker_disconnects_total{lane="safety"} 1',
            } <= await figures(desk)

    asyncio.run(story())


def test_a_delay_that_is_not_taken_any_more_is_a_reason_and_starves_the_watchdog(tmp_path: Path) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            world.say("charger/p1/telemetry", b'{"temperature": 20}', 1)  # its silence is a delay
            ahead(world.node.clock, 600_000 + OVERDUE_MS + 1_000)  # and the node's timer has not heard of it
            assert vitals.blocked() == "deadlines are not taken"
            vitals._look_at_deciding()  # noqa: SLF001 - a whole look tells the engine, which takes its delays
            assert Code.CANNOT_DECIDE in reasons(desk)
            vitals.look()
            vitals.look()
            assert Code.CANNOT_DECIDE not in reasons(desk)
            assert vitals.blocked() is None

    asyncio.run(story())


class Refusing(PlayedLink):
    """Its broker permits what `permitted` says."""

    permitted = False

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        if not self.permitted and "/alarm/" in topic:
            raise PublishRefusedError("not authorized")
        await super().publish(topic, payload, retain=retain, expires_in_s=expires_in_s)


def test_an_alarm_that_the_broker_refuses_is_a_reason_until_it_takes_alarms_again_without_reconnecting(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            link = Refusing()
            world.node.outbox._publisher = link  # noqa: SLF001 - the same broker, with an access control list
            world.say("smoke/sm1/telemetry", b'{"smoke": true}', 1)
            await until(lambda: world.node.outbox.denied)
            vitals.look()
            assert reasons(desk) == {Code.CANNOT_PUBLISH}
            assert "not authorized" in desk.condition.reasons()[0].message
            link.permitted = True
            vitals._tried_at -= HEALTH_S  # noqa: SLF001 - a minute later
            vitals.look()
            await until(lambda: link.retained)
            vitals.look()
            assert reasons(desk) == set()

    asyncio.run(story())


class Deaf(PlayedLink):
    """Its broker acknowledges nothing."""

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expires_in_s: int | None = None
    ) -> None:
        del topic, payload, retain, expires_in_s
        await asyncio.Event().wait()


def test_publications_that_wait_though_connected_are_a_reason_and_no_cause_for_a_restart(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            world.node.outbox._publisher = Deaf()  # noqa: SLF001 - as above
            world.node.outbox.add(
                [Outgoing(1, OutgoingKind.ALARM, "a", TOPICS.alarm("a"), b"{}", retain=True)]
            )
            vitals.look()
            assert reasons(desk) == set()
            vitals._settled_at -= STUCK_S  # noqa: SLF001 - so long ago
            vitals.look()
            assert reasons(desk) == {Code.CANNOT_PUBLISH}
            assert vitals.blocked() is None
            world.cut()
            vitals.look()
            assert reasons(desk) == {Code.BROKER_AWAY}

    asyncio.run(story())


def test_the_watchdog_starves_at_a_hanging_commit_and_not_at_a_store_that_is_known_to_fail(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, _):
            assert vitals.blocked() is None
            commits = world.node.commits
            commits.writing = Flight(Batch(1))  # given to a store that never answers
            commits.since = asyncio.get_running_loop().time() - STALL_S - 1
            blocked = vitals.blocked()
            assert blocked is not None
            assert "commit" in blocked
            world.node.store_error = "no space left on device"
            assert vitals.blocked() is None  # it still evaluates and warns; a restart would take that away
            world.node.store_error = commits.writing = None
            await world.journal.close()
            assert vitals.blocked() == "the journal's writer has ended"
            await world.journal.open()

    asyncio.run(story())


def test_messages_that_were_not_evaluated_are_a_reason_for_ten_minutes_and_an_alarm_until_then(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, vitals, desk):
            vitals.look()
            world.node.intake.state.refused += 12
            world.node.intake.state.tracks_refused += 3
            vitals.look()
            wanted = {"gateway-unregistered", "gateway-tracks-refused"}
            await until(lambda: gateway_alarms(world) == wanted)
            texts = [alarm.text["en"] for alarm in world.node.board.values()]
            assert any("12 messages not evaluated" in text for text in texts)
            pass_time(world, 601)
            vitals.look()
            assert reasons(desk) == set()
            await until(lambda: all(not alarm.active for alarm in world.node.board.values()))

    asyncio.run(story())


def test_a_board_that_a_storm_has_filled_is_told_of_by_its_worst_and_the_number_of_the_others(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with vital(tmp_path) as (world, _, desk):
            filled = [
                alarm(
                    number,
                    severity=Severity.HIGH,
                    suppressed_by="storm",
                    text={"en": "x" * 500, "zh": "烟" * 500},
                )
                for number in range(4_000)
            ]
            filled += [alarm(4_000 + number, severity=Severity.INFO) for number in range(3)]
            world.node.board.update({each.key: each for each in filled})
            path = tmp_path / "s"
            server = asyncio.create_task(ControlServer(path, desk.answer).run())
            await until(path.is_socket)
            answer = await asyncio.to_thread(request, path, "status")
            report = msgspec.json.decode(answer, type=StatusReport)
            assert len(report.standing) == STANDING_MOST
            assert report.beyond == len(world.node.board) - STANDING_MOST
            assert [each.severity for each in report.standing[-3:]] == [
                "info"
            ] * 3  # people are told of these
            lines = list(status_lines(report, "en", "Asia/Shanghai"))
            assert f"standing: {len(world.node.board)}" in lines
            assert f"  … and {report.beyond} more: `anlin alarms list` shows them" in lines
            server.cancel()

    asyncio.run(scene())
