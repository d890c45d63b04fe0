"""Which telemetry of a babbling device is judged: the policy, without a clock."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.readings import Channel, Reading, Scalar, address_of
from devices.topics import Lane
from edge.throttle import BABBLERS_MOST, BURST, PER_S, QUIET_MS, STATES_MOST, Loss, Meter, Throttle

NOW = 1_790_000_000_000


class Device:
    """One that says what the test wants; it has its meter as the intake keeps it."""

    def __init__(self, throttle: Throttle, name: str = "s1") -> None:
        self.address = address_of("c1", "smoke", name)
        self.judged: list[Reading] = []
        self.said = 0
        self.meter = Meter()
        self._throttle = throttle

    def say(self, now: int, *, source_time: int = 0, **values: Scalar) -> Reading | None:
        """What is judged of it at once."""
        self.said += 1
        reading = Reading(Channel.TELEMETRY, self.address, values, source_time or now, now)
        self.meter.left -= 1
        judged = (
            reading if self.meter.left >= 0 else self._throttle.admit(self.meter, Lane.SAFETY, reading, now)
        )
        if judged is not None:
            self.judged.append(judged)
        return judged

    def babble(self, now: int, **values: bool) -> int:
        """Say the same each millisecond until it is throttled; when that is."""
        while not self._throttle.babblers:
            now += 1
            self.say(now, **values)
        return now


def run(
    throttle: Throttle, device: Device, begin: int, end: int, every_ms: int = 1, **values: bool
) -> list[Loss]:
    """Go on like this, with a turn a second; what is put on record."""
    losses: list[Loss] = []
    for now in range(begin + 1, end + 1):
        if every_ms and (now - begin) % every_ms == 0:
            device.say(now, **values)
        if (now - begin) % 1_000 == 0:
            turn = throttle.turn(now)
            device.judged += turn.judge
            losses += turn.losses
    return losses


def test_a_device_at_the_limit_is_never_throttled_and_one_beyond_it_is() -> None:
    for per_s, throttled in ((PER_S, False), (PER_S + 5, True)):
        throttle = Throttle()
        device = Device(throttle)
        for number in range(per_s * 200):
            device.say(NOW + number * 1_000 // per_s, smoke=False)
        assert bool(throttle.babblers) is throttled


def test_a_burst_passes_whole() -> None:
    throttle = Throttle()
    device = Device(throttle)
    for _ in range(BURST):
        assert device.say(NOW, smoke=False) is not None
    assert throttle.babblers == []


def test_what_a_device_had_stored_passes_as_fast_as_it_comes() -> None:
    throttle = Throttle()
    device = Device(throttle)
    for number in range(26 * 720):  # 26 hours, a message every 5 s, all of it within a moment
        assert device.say(NOW, source_time=NOW - 93_600_000 + number * 5_000, smoke=False) is not None
    assert throttle.babblers == []


def test_a_device_whose_clock_runs_backwards_earns_by_ours() -> None:
    throttle = Throttle()
    device = Device(throttle)
    for number in range(3 * BURST):
        assert device.say(NOW + number * 25, source_time=NOW - number * 25, smoke=False) is not None


def test_while_the_broker_hands_over_what_has_waited_nobody_is_judged_by_it() -> None:
    throttle = Throttle()
    device = Device(throttle)
    throttle.connected(NOW)
    for number in range(20_000):
        if number % 1_000 == 0:
            throttle.full(NOW + number)
        assert device.say(NOW + number, smoke=False) is not None
    device.babble(NOW + 20_000, smoke=False)  # the window was never full again: from now on it is
    assert throttle.babblers == [device.address]


def test_a_babbler_that_keeps_the_window_full_does_not_hide_in_the_backlog_for_ever() -> None:
    throttle = Throttle()
    device = Device(throttle)
    throttle.connected(NOW)
    now = NOW
    while not throttle.babblers and now < NOW + 700_000:
        now += 10
        throttle.full(now)
        device.say(now, smoke=False)
    assert NOW + 600_000 < now < NOW + 700_000


def test_the_others_are_untouched() -> None:
    throttle = Throttle()
    babbler, other = Device(throttle), Device(throttle, "s2")
    for now in range(NOW, NOW + 20_000):
        babbler.say(now, smoke=False)
        if now % 100 == 0:
            assert other.say(now, smoke=False) is not None
    assert throttle.babblers == [babbler.address]


def test_the_newest_value_of_each_point_is_judged_every_second() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False)
    throttle.turn(now)
    assert device.say(now + 1, temperature=20.0) is not None
    for value in range(50):
        device.say(now + 2 + value, temperature=20.0 + value)
        device.say(now + 2 + value, density=value / 100)
    turn = throttle.turn(now + 1_000)
    assert [reading.values for reading in turn.judge] == [{"temperature": 69.0, "density": 0.49}]
    assert turn.judge[0].received_at == now + 1_000


def test_smoke_of_a_babbler_is_judged_at_once_and_so_is_its_end() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False, tamper=False)
    for step, smoke in enumerate((True, False, True)):
        moment = now + 1_000 * (step + 1)
        throttle.turn(moment)
        assert device.say(moment + 5, smoke=not smoke, tamper=False) is not None  # the first of a second
        judged = device.say(moment + 500, smoke=smoke, tamper=False)
        assert judged is not None
        assert judged.values["smoke"] is smoke


def test_smoke_comes_through_while_another_point_flips_each_millisecond() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False, tamper=False)
    throttle.turn(now + 1_000)
    for number in range(500):
        device.say(now + 1_000 + number, smoke=False, tamper=bool(number % 2))
    assert device.say(now + 1_501, smoke=True, tamper=True) is not None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_makes_a_babbler_louder_than_its_bound_and_every_message_is_judged_or_counted(
    seed: int,
) -> None:
    random = Random(seed)
    said = [(random.random() < 0.5, random.random() < 0.5, random.randrange(10_000)) for _ in range(1_500)]
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False)
    before = len(device.judged)
    lost = 0
    for number, (smoke, tamper, free) in enumerate(said):
        now += 1
        device.say(now, smoke=smoke, tamper=tamper, session=str(free))
        if number % 1_000 == 999:
            turn = throttle.turn(now)
            device.judged += turn.judge
            lost += sum(loss.count for loss in turn.losses)
    turn = throttle.turn(now, last=True)
    device.judged += turn.judge
    assert len(device.judged) - before <= 3 * (STATES_MOST + 1)
    assert device.said == len(device.judged) + lost + sum(loss.count for loss in turn.losses)
    assert device.judged[-1].values == {
        "smoke": said[-1][0],
        "tamper": said[-1][1],
        "session": str(said[-1][2]),
    }


def test_it_is_free_again_after_some_seconds_within_the_limit() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False)
    run(throttle, device, now, now + 10_000, smoke=False)
    assert throttle.babblers
    now += 10_000
    losses = run(throttle, device, now, now + QUIET_MS + 1_000, every_ms=100, smoke=False)
    assert throttle.babblers == []
    assert len(losses) == 1
    judged = len(device.judged)
    run(throttle, device, now + 6_000, now + 8_000, every_ms=100, smoke=False)
    assert len(device.judged) - judged == 20


def test_losses_are_a_row_soon_after_the_beginning_and_one_a_minute() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False)
    losses = run(throttle, device, now, now + 125_000, smoke=False)
    assert len(losses) == 3
    assert losses[0].to_ms <= now + 1_000
    assert losses[1].count > 59_000
    assert losses[0].to_ms < losses[1].from_ms < losses[1].to_ms < losses[2].from_ms


def test_a_clock_that_is_put_back_keeps_nothing_waiting() -> None:
    throttle = Throttle()
    device = Device(throttle)
    now = device.babble(NOW, smoke=False)
    past = now - 3_600_000
    assert device.say(past, smoke=True) is not None
    run(throttle, device, past, past + 2_000, smoke=False)
    run(throttle, device, past + 2_000, past + 2_000 + QUIET_MS + 2_000, every_ms=0)
    assert throttle.babblers == []
    assert device.say(past + 20_000, smoke=False) is not None


def test_when_very_many_say_too_much_it_is_the_load_and_nobody_more_is_throttled() -> None:
    throttle = Throttle()
    devices = [Device(throttle, f"s{number}") for number in range(BABBLERS_MOST + 1)]
    for device in devices:
        for _ in range(3 * BURST):
            device.say(NOW, smoke=False)
    assert len(throttle.babblers) == BABBLERS_MOST
    assert len(devices[-1].judged) == 3 * BURST
