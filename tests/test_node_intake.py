"""edge.intake: from deliveries to decisions, without a disk and without a socket."""

import pytest

from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.checking import load_registry, load_rules
from edge.intake import QUARANTINE_PER_MINUTE, Intake
from edge.mqtt.link import Delivery
from edge.settings import Config
from edge.store.records import OrderStatus, OutgoingKind
from rules.engine import Engine

NOW = 1_790_000_040_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    rules = load_rules(Config())
    return Engine(rules, site="c1", node="gw-1", place_of=lambda _: {}, unregistered_max=100)


@pytest.fixture
def intake(engine: Engine) -> Intake:
    registry: Registry = load_registry(Config())
    return Intake(engine, engine.new_state(), Topics("community", "c1"), registry)


def give(intake: Intake, topic: str, payload: bytes, now: int = NOW, packet_id: int | None = 1) -> list[int]:
    delivery = Delivery(f"community/c1/{topic}", payload, packet_id, dup=False, retain=False)
    return intake.receive(Lane.SAFETY, [delivery], now)


def is_urgent(intake: Intake) -> bool:
    """Once: whoever closes the batch takes it back."""
    urgent, intake.urgent = intake.urgent, False
    return urgent


def test_every_message_is_to_be_acknowledged_whatever_it_says(intake: Intake) -> None:
    for topic, payload in (
        ("smoke/s1/telemetry", b'{"smoke": true}'),
        ("smoke/s1/telemetry", b"nonsense"),
        ("toaster/s1/event", b"{}"),
        ("gateway/gw-1/status", b"online"),
        ("alarm/x", b"{}"),
    ):
        assert give(intake, topic, payload, packet_id=7) == [7]
    assert give(intake, "smoke/s1/telemetry", b"{}", packet_id=None) == []


def test_our_own_messages_coming_back_are_ignored(intake: Intake) -> None:
    for topic in ("gateway/gw-1/status", "gateway/gw-2/status", "alarm/status", "gateway/x/telemetry"):
        give(intake, topic, b"online")
    assert not intake.batch.inputs
    assert intake.batch.quarantined == []
    assert intake.counts["foreign"] == 4


def test_an_event_and_an_alarm_are_urgent_and_a_reading_is_not(intake: Intake) -> None:
    give(intake, "charger/p1/telemetry", b'{"temperature": 30}')
    give(intake, "smoke/s1/telemetry", b'{"smoke": false}')
    assert not is_urgent(intake)
    give(intake, "button/b1/event", b'{"action": "check_in"}')
    assert is_urgent(intake)
    give(intake, "smoke/s1/telemetry", b'{"smoke": true}')
    assert is_urgent(intake)
    (row,) = intake.batch.outgoing
    (change,) = intake.batch.changes
    assert (row.kind, row.topic, row.retain) == (
        OutgoingKind.ALARM,
        f"community/c1/alarm/{change.alarm.id}",
        True,
    )
    assert row.payload == change.alarm.wire()


def test_an_alarm_that_ends_is_told_once_more_and_then_taken_from_the_broker(intake: Intake) -> None:
    give(intake, "smoke/s1/telemetry", b'{"smoke": true, "test": true}')  # a record that ends by itself
    give(intake, "smoke/s1/telemetry", b'{"smoke": false, "test": false}')
    payloads = [row.payload for row in intake.batch.outgoing]
    assert len(payloads) == 3
    assert b'"state":"normal"' in payloads[1]
    assert payloads[2] == b""


def test_an_order_is_sent_on_the_devices_topic_and_its_result_is_kept(intake: Intake) -> None:
    give(intake, "charger/p1/telemetry", b'{"temperature": 85}')
    intake.tick(NOW + 3_000)
    orders = [row for row in intake.batch.outgoing if row.kind is OutgoingKind.ORDER]
    assert [row.topic for row in orders] == ["community/c1/charger/p1/command"]
    assert not orders[0].retain
    assert orders[0].expires_at is not None
    result = b'{"command_id": "%s", "status": "failed", "detail": "%s"}' % (
        orders[0].subject.encode(),
        b"x" * 500,
    )
    give(intake, "charger/p1/command/result", result, NOW + 4_000)
    (answer,) = intake.batch.order_results
    assert (answer.order_id, answer.status, answer.detail) == (
        orders[0].subject,
        OrderStatus.FAILED,
        "x" * 200,
    )


def test_the_quarantine_takes_so_many_a_minute_and_everything_is_counted(intake: Intake) -> None:
    for _ in range(1_000):
        give(intake, "smoke/s1/telemetry", b"{")
    assert len(intake.batch.quarantined) == QUARANTINE_PER_MINUTE
    assert intake.counts["rejected"] == intake.counts["rejected.malformed"] == 1_000
    give(intake, "smoke/s1/telemetry", b"{", NOW + 60_000)
    assert len(intake.batch.quarantined) == QUARANTINE_PER_MINUTE + 1


def test_a_door_is_not_held_where_fire_recall_is_unknown_and_that_is_counted(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    seen = b'{"type": "new", "track": "t1", "label": "ebike", "score": 0.9}'
    give(intake, "elevator/l1/event", seen)
    intake.tick(NOW + 1_000)
    assert [row.kind for row in intake.batch.outgoing] == [OutgoingKind.ALARM]
    assert intake.counts["orders_withheld"] == 1
    assert "order withheld" in caplog.text


def test_every_field_that_no_kind_knows_is_counted(intake: Intake) -> None:
    give(intake, "smoke/s1/telemetry", b'{"smoke": false, "density": null}')
    give(intake, "smoke/s1/telemetry", b'{"smoke": false, "mood": "bad", "vendor": {"rssi": -70, "fw": 2}}')
    give(intake, "button/b1/event", b'{"action": "check_in", "ts": 0, "id": 7, "colour": "red"}')
    give(intake, "smoke/s1/telemetry", b'{"smoke": "yes", "mood": "bad"}')  # refused as a whole
    assert intake.counts["unknown_fields"] == 3


def test_a_topic_of_sixty_four_kilobytes_is_cut_in_the_quarantine(intake: Intake) -> None:
    give(intake, "smoke/" + "x" * 65_000 + "/telemetry", b"{}")
    (kept,) = intake.batch.quarantined
    assert len(kept.topic) == 512
