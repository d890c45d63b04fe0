"""What simulated devices do in their own time: physics, faults, orders. No broker."""

import math
import random
from collections.abc import Iterator, Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.decoding import decode
from devices.kinds import KINDS
from devices.readings import Channel, Scalar
from devices.topics import Route, Topics
from simulators.button import Button, poisson
from simulators.charger import Charger, Phase
from simulators.device import Device, Message, Status
from simulators.elevator import Elevator
from simulators.fleet import MODELS
from simulators.smoke import ALARM_DB_M, Smoke
from simulators.sounder import Siren

HOUR = 3_600.0
DAY = 24 * HOUR
TOPICS = Topics("community", "c1")
KIND_NAMES = sorted(MODELS)


def made(kind: str, seed: int = 1, **settings: float) -> Device:
    return MODELS[kind](random.Random(seed), **settings)


def charger(seed: int = 1, *, plugged: bool = True) -> Charger:
    """A port that reports each second, with a battery just connected (or none for a long time)."""
    device = Charger(random.Random(seed), interval_s=1)
    device.happen("action", "unplug", {})
    device.advance(1)
    if plugged:
        device.happen("action", "plug", {})
        device.advance(20)
        assert device.phase is Phase.BULK
    return device


def telemetry(messages: list[Message]) -> list[Mapping[str, Scalar]]:
    return [message.payload for message in messages if message.channel is Channel.TELEMETRY]


def events(messages: list[Message]) -> list[Mapping[str, Scalar]]:
    return [message.payload for message in messages if message.channel is Channel.EVENT]


def last(device: Device, dt_s: float) -> Mapping[str, Scalar]:
    return telemetry(device.advance(dt_s))[-1]


def everything_that_can_happen(kind: str) -> Iterator[tuple[str, str]]:
    for verb, names in MODELS[kind].happenings.items():
        for name in names:
            yield verb, name


# --- all kinds ----------------------------------------------------------------------------------------------


def test_every_kind_on_the_wire_has_a_simulated_device() -> None:
    assert set(MODELS) == {name for name, kind in KINDS.items() if kind.on_wire}


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_the_same_seed_says_the_same_and_another_seed_does_not(kind: str) -> None:
    first, again, other = (made(kind, seed, interval_s=60).advance(2 * HOUR) for seed in (5, 5, 6))
    assert first == again
    assert first
    assert kind in ("siren", "broadcast") or [one.payload for one in first] != [one.payload for one in other]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KIND_NAMES),
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 8 * 3_600), max_size=20),
)
def test_however_time_is_cut_the_same_is_said(kind: str, seed: int, cuts: list[int]) -> None:
    whole = made(kind, seed).advance_to(8 * HOUR)
    device = made(kind, seed)
    pieces = [message for cut in sorted(cuts) for message in device.advance_to(cut)]
    assert pieces + device.advance_to(8 * HOUR) == whole


@settings(max_examples=30, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KIND_NAMES), seed=st.integers(0, 10_000))
def test_whatever_happens_every_message_is_accepted_by_the_gateways_decoder(
    data: st.DataObject, kind: str, seed: int
) -> None:
    device = made(kind, seed, interval_s=30, starts_at_s=data.draw(st.floats(0, DAY)))
    said = device.advance(600)
    for verb, name in data.draw(st.lists(st.sampled_from([*everything_that_can_happen(kind)]), max_size=4)):
        device.happen(verb, name, {})
        said += device.advance(data.draw(st.floats(0, 2_000)))
        for command in KINDS[kind].commands:
            device.obey(command, {})
        said += device.advance(60)
    assert said
    for message in said:
        route = TOPICS.route(f"community/c1/{kind}/any/{message.channel.name.lower()}")
        assert isinstance(route, Route)
        reading = decode(route, msgspec.json.encode(message.payload), 1_800_000_000_000)
        assert reading.extra is None, "a simulated device says nothing that the contract does not know"


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_messages_come_in_the_order_of_their_times(kind: str) -> None:
    times = [message.at_s for message in made(kind, interval_s=7).advance(6 * HOUR)]
    assert times == sorted(times)
    assert times[0] <= 5


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_unknown_commands_and_wrong_arguments_are_rejected_by_name(kind: str) -> None:
    device = made(kind)
    assert device.obey("explode", {}).status is Status.REJECTED
    for command in KINDS[kind].commands:
        outcome = device.obey(command, {"colour": "red"})
        assert outcome.status is Status.REJECTED
        assert "colour" in outcome.detail


def test_a_silent_device_says_nothing_until_its_time_is_over() -> None:
    device = made("charger", interval_s=10)
    device.advance(60)
    device.happen("fault", "silent", {"for": 100})
    assert device.advance(99) == []
    assert device.advance(30)


# --- charger ------------------------------------------------------------------------------------------------


def test_a_session_charges_tapers_floats_ends_and_leaves() -> None:
    device = charger(3)
    seen = [Phase.BULK]
    power: dict[Phase, list[float]] = {phase: [] for phase in Phase}
    statuses: list[Scalar] = []
    while device.phase is not Phase.IDLE:
        points = last(device, 60)
        if device.phase is not seen[-1]:
            seen.append(device.phase)
        power[device.phase].append(float(points["power"]))
        if not statuses or statuses[-1] != points["status"]:
            statuses.append(points["status"])
    assert seen[:3] == [Phase.BULK, Phase.TAPER, Phase.FLOAT]
    assert statuses[:2] == ["Charging", "SuspendedEV"]
    assert statuses[-1] in ("SuspendedEV", "Finishing", "Available")
    bulk, taper = power[Phase.BULK], power[Phase.TAPER]
    assert max(bulk) / min(bulk) < 1.12, "constant current: power rises only with the battery's voltage"
    assert taper[len(taper) // 2] < 0.7 * taper[0]
    assert taper[-1] < 0.1 * taper[0]
    assert all(value < 6 for value in power[Phase.FLOAT])


@pytest.mark.parametrize("seed", range(5))
def test_energy_is_the_integral_of_power(seed: int) -> None:
    device = Charger(random.Random(seed), interval_s=5)
    points = telemetry(device.advance(10))
    before = float(points[-1]["energy"])
    energy_wh = 0.0
    at_s, power_w = device.now_s, float(points[-1]["power"])
    for message in device.advance(10 * HOUR):
        if message.channel is Channel.TELEMETRY:
            now_w = float(message.payload["power"])
            energy_wh += (now_w + power_w) / 2 * (message.at_s - at_s) / HOUR
            at_s, power_w = message.at_s, now_w
    after = float(last(device, 5)["energy"])
    assert energy_wh > 50
    assert (after - before) * 1_000 == pytest.approx(energy_wh, rel=0.01, abs=2)


def test_energy_never_falls_and_current_fits_power_and_voltage() -> None:
    points = telemetry(Charger(random.Random(8), interval_s=60).advance(2 * DAY))
    register = [float(one["energy"]) for one in points]
    assert register == sorted(register)
    for one in points:
        assert 205 < float(one["voltage"]) < 245
        assert float(one["current"]) * float(one["voltage"]) * 0.95 == pytest.approx(
            float(one["power"]), abs=1
        )


def test_power_warms_the_port_and_it_cools_when_the_battery_is_gone() -> None:
    device = charger(3)
    device.advance(30 * 60)
    warm = device.temperature_c
    assert 2 < warm - device.ambient_c < 25
    device.happen("action", "unplug", {})
    device._next_plug_s = math.inf  # noqa: SLF001 - nobody else comes
    device.advance(30 * 60)
    assert abs(device.temperature_c - device.ambient_c) < 1


def test_a_bad_contact_heats_on_at_its_rate_even_at_taper_until_power_is_cut() -> None:
    device = charger(3)
    while device.phase is not Phase.TAPER:
        device.advance(60)
    device.happen("fault", "overheat", {"rate": 0.7})
    begun = device.temperature_c
    device.advance(60)
    assert device.temperature_c == pytest.approx(begun + 42, abs=1)
    device.advance(60)
    assert device.temperature_c > 80
    assert device.obey("cut_power", {}).status is Status.DONE
    cut = last(device, 5)
    assert (cut["power"], cut["status"], cut["error"]) == (0, "SuspendedEVSE", "HighTemperature")
    device.advance(150)
    assert device.temperature_c < 60
    assert device.obey("restore_power", {}).status is Status.DONE
    assert last(device, 30)["status"] == "Charging"
    assert device.power_w > 0


def test_a_runaway_rises_by_a_degree_a_second_or_more_and_no_relay_stops_it() -> None:
    device = charger(4)
    device.happen("fault", "runaway", {})
    device.advance(5)
    before = device.temperature_c
    assert device.obey("cut_power", {}).status is Status.DONE
    device.advance(30)
    assert (device.temperature_c - before) / 30 >= 1


def test_a_hot_port_reports_every_degree_though_its_interval_is_long() -> None:
    device = Charger(random.Random(2), interval_s=600)
    device.advance(601)
    device.happen("fault", "overheat", {"rate": 0.5})
    temperatures = [float(one["temperature"]) for one in telemetry(device.advance(100))]
    assert len(temperatures) > 20
    assert all(later - earlier < 2 for earlier, later in pairwise(temperatures))


def test_a_hot_port_refuses_power_and_a_welded_relay_fails_to_cut() -> None:
    hot = charger(5)
    hot.happen("fault", "overheat", {"rate": 2})
    hot.advance(60)
    hot.obey("cut_power", {})
    assert hot.obey("restore_power", {}).status is Status.REJECTED
    welded = charger(6)
    welded.happen("fault", "welded", {})
    assert welded.obey("cut_power", {}).status is Status.FAILED
    assert last(welded, 2)["error"] == "PowerSwitchFailure"
    assert welded.power_w > 0


def test_a_battery_that_never_fills_keeps_its_power() -> None:
    device = charger(3)
    device.happen("fault", "no_taper", {})
    device.advance(14 * HOUR)
    assert device.phase is Phase.BULK
    assert device.power_w > 100


# --- smoke --------------------------------------------------------------------------------------------------


def alarm_after(fault: str, limit_s: float, seed: int = 1) -> float | None:
    device = Smoke(random.Random(seed))
    device.advance(10)
    device.happen("fault", fault, {})
    for second in range(int(limit_s)):
        if any(one["smoke"] is True for one in telemetry(device.advance(1))):
            return second
    return None


def test_flames_alarm_within_half_a_minute_and_smouldering_within_many() -> None:
    flaming, smouldering = alarm_after("flaming", 600), alarm_after("smouldering", 3_600)
    assert flaming is not None
    assert smouldering is not None
    assert 5 < flaming < 30
    assert 120 < smouldering < 1_200


def test_smoke_begins_and_ends_with_hysteresis_and_never_flutters() -> None:
    device = Smoke(random.Random(4), interval_s=5)
    device.happen("fault", "flaming", {})
    said = telemetry(device.advance(120))
    device.happen("fault", "none", {})
    said += telemetry(device.advance(1_200))
    states = [one["smoke"] for one in said]
    assert sum(a != b for a, b in pairwise(states)) == 2
    ends = [float(one["density"]) for one, state in zip(said, states, strict=True) if state is True]
    assert min(ends) < 0.95 * ALARM_DB_M
    assert float(said[-1]["density"]) < 0.02


def test_burnt_toast_alarms_and_clears_by_itself() -> None:
    device = Smoke(random.Random(4), interval_s=10)
    device.happen("fault", "burnt_toast", {})
    states = [one["smoke"] for one in telemetry(device.advance(900))]
    assert True in states
    assert states[-1] is False


def test_a_test_is_marked_and_short_and_a_mute_silences_only_the_device() -> None:
    device = Smoke(random.Random(1), interval_s=5)
    assert device.obey("self_test", {}).status is Status.DONE
    during = last(device, 1)
    assert (during["test"], during["smoke"]) == (True, True)
    after = last(device, 30)
    assert (after["test"], after["smoke"]) == (False, False)
    device.happen("fault", "smouldering", {"growth": 100})
    device.advance(80)
    assert device.smoke
    device.obey("mute", {})
    muted = last(device, 5)
    assert (muted["muted"], muted["smoke"]) == (True, True)
    assert last(device, 600)["muted"] is False


def test_a_battery_lasts_years_and_warns_more_than_thirty_days_ahead() -> None:
    device = Smoke(random.Random(1), interval_s=5 * DAY)
    levels = [(one["battery"], one["battery_low"]) for one in telemetry(device.advance(11 * 365 * DAY))]
    percent = [float(level) for level, _ in levels]
    assert percent == sorted(percent, reverse=True)
    low = [level for level, is_low in levels if is_low]
    assert len([level for level in low if float(level) > 0]) * 5 > 30
    assert levels[0][1] is False


# --- button -------------------------------------------------------------------------------------------------


def test_a_resident_moves_by_day_and_sleeps_at_night() -> None:
    device = Button(random.Random(3), interval_s=HOUR)
    by_hour = [0.0] * 24
    for message in device.advance(7 * DAY):
        if message.channel is Channel.TELEMETRY:
            by_hour[int(message.at_s / HOUR - 0.5) % 24] += float(message.payload["activity"])
    assert sum(by_hour[1:5]) < 0.02 * sum(by_hour)
    assert sum(by_hour[7:12]) > 0.25 * sum(by_hour)


def test_a_resident_who_lies_still_is_told_apart_from_one_who_left_the_button() -> None:
    device = Button(random.Random(3), interval_s=HOUR, starts_at_s=12 * HOUR)
    device.advance(60)
    device.happen("fault", "motionless", {})
    assert (last(device, 2 * HOUR)["activity"], last(device, HOUR)["worn"]) == (0, True)
    device.happen("fault", "not_worn", {})
    assert last(device, HOUR)["worn"] is False


def test_who_falls_without_the_button_is_not_seen_and_with_it_on_is_also_at_night() -> None:
    for already, worn in (([], True), (["not_worn"], False)):
        device = Button(random.Random(3), interval_s=HOUR, starts_at_s=1 * HOUR)
        for name in already:
            device.happen("fault", name, {})
        device.happen("fault", "fall", {})
        said = last(device, 2 * HOUR)
        assert (said["worn"], said["activity"]) == (worn, 0)


def test_presses_are_events_and_a_confirmation_reaches_the_person() -> None:
    device = Button(random.Random(3))
    for action in ("emergency", "cancel", "test", "check_in"):
        device.happen("action", action, {})
    assert [event["action"] for event in events(device.advance(0))] == [
        "emergency",
        "cancel",
        "test",
        "check_in",
    ]
    assert device.obey("confirm", {}).status is Status.DONE
    assert device.confirmations == 1


def test_a_person_who_is_asked_answers_after_a_moment_and_one_who_lies_motionless_does_not() -> None:
    well, fallen = (
        Button(random.Random(3), starts_at_s=12 * HOUR),
        Button(random.Random(3), starts_at_s=12 * HOUR),
    )
    fallen.happen("fault", "motionless", {})
    for device, answers in ((well, ["check_in"]), (fallen, [])):
        device.advance(60)
        assert device.obey("prompt", {"text": "well?"}).status is Status.DONE
        assert [event["action"] for event in events(device.advance(60))] == answers


def test_no_resident_presses_emergency_unless_a_scenario_says_so() -> None:
    actions = [event["action"] for event in events(Button(random.Random(9)).advance(60 * DAY))]
    assert set(actions) == {"check_in", "test"}
    assert 50 <= actions.count("check_in") <= 60
    assert actions.count("test") == 2


@pytest.mark.parametrize("mean", [0.5, 12, 400])
def test_counts_are_drawn_around_their_mean(mean: float) -> None:
    rng = random.Random(1)
    drawn = [poisson(rng, mean) for _ in range(4_000)]
    assert sum(drawn) / 4_000 == pytest.approx(mean, rel=0.06)


# --- elevator -----------------------------------------------------------------------------------------------


def test_every_track_begins_is_updated_and_ends_once() -> None:
    tracks: dict[Scalar, list[Scalar]] = {}
    labels = set()
    for event in events(Elevator(random.Random(2), starts_at_s=8 * HOUR).advance(12 * HOUR)):
        tracks.setdefault(event["track"], []).append(event["type"])
        labels.add(event["label"])
    assert len(tracks) > 100
    assert {"person", "stroller"} <= labels
    assert "ebike" not in labels
    for types in list(tracks.values())[:-5]:
        assert types[0] == "new"
        assert types[-1] == "end"
        assert set(types[1:-1]) <= {"update"}


def test_nobody_boards_or_leaves_through_a_closed_door() -> None:
    device = Elevator(random.Random(2), starts_at_s=17 * HOUR)
    device.advance(10)
    passed = [event["type"] for _ in range(4_000) for event in events(device.advance(1)) if not device.open]
    assert set(passed) == {"update"}


def with_ebike(seed: int = 1, stay_s: float = 30) -> Elevator:
    device = Elevator(random.Random(seed), starts_at_s=3 * HOUR)
    device.advance(10)
    device.happen("passenger", "ebike", {"stay": stay_s})
    for _ in range(20):
        if any(event["label"] == "ebike" for event in events(device.advance(1))):
            return device
    raise AssertionError("no e-bike within 20 s")


def test_a_held_door_blocks_until_the_ebike_has_left_and_the_hold_lapses() -> None:
    device = with_ebike(stay_s=30)
    assert device.obey("hold_door", {"seconds": 60, "prompt": "no e-bikes"}).status is Status.DONE
    said = device.advance(40)
    assert {one["door"] for one in telemetry(said)} == {"open"}
    assert any(one["blocking"] for one in telemetry(said))
    assert [event["type"] for event in events(said) if event["label"] == "ebike"][-1] == "end"
    assert not device.passengers
    device.advance(30)
    assert (device.blocking, device.open) == (False, False)


def test_a_released_door_closes_soon() -> None:
    device = with_ebike(stay_s=200)
    device.obey("hold_door", {"seconds": 120})
    device.advance(30)
    assert device.blocking
    assert device.obey("release_door", {}).status is Status.DONE
    device.advance(3)
    assert not device.open


def test_an_ebike_that_nobody_stops_rides_along_and_leaves() -> None:
    device = with_ebike(stay_s=20)
    said = device.advance(60)
    assert [event["type"] for event in events(said) if event["label"] == "ebike"][-1] == "end"


def test_fire_recall_drops_the_hold_opens_at_the_ground_and_refuses_holds() -> None:
    device = with_ebike(stay_s=200)
    device.obey("hold_door", {"seconds": 120})
    device.advance(2)
    device.happen("fault", "fire_recall", {})
    assert last(device, 0)["blocking"] is False
    device.advance(60)
    assert (device.floor, device.open, device.passengers) == (1, True, [])
    assert device.obey("hold_door", {"seconds": 10}).status is Status.REJECTED
    device.advance(300)
    assert device.open


def test_a_hold_longer_than_two_minutes_is_rejected() -> None:
    assert Elevator(random.Random(1)).obey("hold_door", {"seconds": 121}).status is Status.REJECTED


def test_a_lost_stream_sees_nobody() -> None:
    device = Elevator(random.Random(2), starts_at_s=8 * HOUR)
    device.happen("fault", "stream_lost", {})
    said = device.advance(HOUR)
    assert events(said) == []
    assert {one["stream"] for one in telemetry(said)} == {"lost"}


# --- siren --------------------------------------------------------------------------------------------------


def test_a_siren_sounds_as_long_as_told_and_a_broken_one_fails() -> None:
    device = Siren(random.Random(1), interval_s=5)
    assert device.obey("sound", {"tone": "fire", "seconds": 30}).status is Status.DONE
    assert last(device, 6)["sounding"] is True
    assert last(device, 40)["sounding"] is False
    device.obey("sound", {})
    assert device.obey("silence", {}).status is Status.DONE
    assert last(device, 1)["sounding"] is False
    device.happen("fault", "broken", {})
    assert device.obey("sound", {}).status is Status.FAILED
