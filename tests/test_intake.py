"""What the intake makes of deliveries, without a broker or a disk."""

import pytest

from devices.documents import parse_yaml
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.intake import Intake
from edge.mqtt.link import Delivery
from rules.engine import Engine
from rules.files import parse

NOW = 1_790_000_000_000
RULES = """
rules:
  - id: fire
    kind: smoke
    when: smoke and not test
    clear: smoke == false
    severity: critical
    text: {en: fire, zh: 火}
"""
TOPIC = "community/c1/smoke/s1/telemetry"
FIRE = b'{"id": "m1", "smoke": true}'


@pytest.fixture
def intake() -> Intake:
    engine = Engine(parse([("rules.yaml", parse_yaml(RULES, "rules.yaml"))]), site="c1", node="gw-1")
    return Intake(engine, engine.new_state(), Topics("community", "c1"), Registry())


def say(intake: Intake, payload: bytes, packet_id: int, *, dup: bool = False, retain: bool = False) -> None:
    intake.receive(Lane.SAFETY, [Delivery(TOPIC, payload, packet_id, dup, retain)], NOW)


def test_a_retained_copy_does_not_hide_the_same_message_when_it_is_said_live(intake: Intake) -> None:
    say(intake, FIRE, 1, retain=True)
    assert intake.batch.changes == []
    say(intake, FIRE, 2)
    assert [change.alarm.rule for change in intake.batch.changes] == ["fire"]


def test_the_same_message_said_twice_is_decided_once_and_acknowledged_twice(intake: Intake) -> None:
    deliveries = [Delivery(TOPIC, FIRE, number, False, False) for number in (1, 2)]
    assert intake.receive(Lane.SAFETY, deliveries, NOW) == [1, 2]
    assert len(intake.batch.inputs) == 1
    assert intake.counts["duplicates"] == 1


def test_a_new_session_forgets_the_packets_of_the_old_one_also_those_not_on_disk(intake: Intake) -> None:
    press = b'{"smoke": true}'
    say(intake, press, 1)
    intake.packets[Lane.SAFETY].committed(intake.batch.packets[Lane.SAFETY])
    intake.forget_session(Lane.SAFETY)
    assert intake.batch.packets[Lane.SAFETY] == []
    say(intake, press, 1, dup=True)
    assert intake.counts["duplicates"] == 0
    assert len(intake.batch.inputs) == 2


STAMPED = b'{"smoke": true, "ts": %d}' % (NOW - 77)


def test_what_a_killed_broker_brings_anew_is_known_by_the_millisecond_in_which_it_was_said(
    intake: Intake,
) -> None:
    for packet_id in (1, 9):
        intake.forget_session(Lane.SAFETY)
        say(intake, STAMPED, packet_id)
    assert len(intake.batch.inputs) == 1
    assert [name for name, _, _ in intake.batch.recent] == [f"@{NOW - 77}"]
    say(intake, b'{"smoke": false, "ts": %d}' % (NOW - 77), 10)
    say(intake, b'{"smoke": true}', 11)
    say(intake, b'{"smoke": true}', 12)
    assert len(intake.batch.inputs) == 4


def test_telemetry_of_the_bulk_session_is_known_by_its_id_only(intake: Intake) -> None:
    reading = b'{"temperature": 31.5, "ts": %d}' % (NOW - 77)
    deliveries = [
        Delivery("community/c1/charger/p1/telemetry", reading, number, False, False) for number in (1, 2)
    ]
    intake.receive(Lane.BULK, deliveries, NOW)
    assert len(intake.batch.inputs) == 2
    assert intake.batch.recent == []


def test_an_input_that_breaks_the_engine_is_not_journaled(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(intake.engine, "step", break_)
    say(intake, FIRE, 1)
    assert not intake.batch.inputs
    assert [each.payload for each in intake.batch.quarantined] == [FIRE]
