"""edge.clock: time that runs evenly, follows what is small, steps where it must, and doubts what cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import RELEASED_MS
from edge.clock import SLEW_MS, STEP_MS, Clock, Step, asleep_ms, boot, synchronised, wall_ms

NOW = RELEASED_MS + 1_000_000_000
HOUR = 3_600_000
UNIT = Path(__file__).resolve().parent.parent / "deploy" / "anlin.service"


class Hands:
    """A computer's clocks, moved by the test."""

    def __init__(self, wall: int = NOW) -> None:
        self.wall = wall
        self.monotonic = 5_000
        self.asleep = 0
        self.served = False
        self.clock = self.another()

    def another(self, *, boot: int = 0) -> Clock:
        """That of the next process."""
        return Clock(
            lambda: self.wall,
            lambda: self.monotonic,
            asleep=lambda: self.asleep,
            synchronised=lambda: self.served,
            boot=lambda: boot,
        )

    def pass_(self, ms: int) -> None:
        self.wall += ms
        self.monotonic += ms

    def settle(self, seconds: int = 30) -> None:
        for _ in range(seconds):
            self.pass_(1_000)
            assert self.clock.observe() is None


def test_the_real_clock_starts_with_the_wall_and_asks_the_real_kernel() -> None:
    clock = Clock()
    clock.begin(0)
    assert not clock.provisional
    assert abs(clock.now_ms() - wall_ms()) < 1_000
    assert asleep_ms() > -1_000
    assert synchronised() in (True, False)
    assert boot() == boot() >= 0


def test_the_shipped_unit_permits_to_ask_the_kernel_who_keeps_the_clock_and_not_to_set_it() -> None:
    """Else no time server would ever be believed against a journal that was written by a wrong clock."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    unit = {name: value for name, _, value in lines}
    assert {"adjtimex", "clock_adjtime", "clock_adjtime64"} <= set(unit["SystemCallFilter"].split())
    assert unit.get("ProtectClock", "no") == "no"
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ""


def test_a_second_is_the_border_between_a_step_and_what_is_followed() -> None:
    for by in (STEP_MS + 1, HOUR, -STEP_MS - 1, -HOUR):
        hands = Hands()
        hands.wall += by
        assert hands.clock.observe() == Step(by, NOW)
        assert hands.clock.now_ms() == hands.wall
        assert hands.clock.observe() is None
    for by in (STEP_MS, -STEP_MS):
        hands = Hands()
        hands.wall += by
        assert hands.clock.observe() is None


@given(st.lists(st.integers(-STEP_MS // 2, STEP_MS // 2), max_size=20))
def test_what_is_small_is_followed_and_time_never_runs_backwards_meanwhile(slews: list[int]) -> None:
    hands = Hands()
    last = hands.clock.now_ms()
    for slew in [*slews, *[0] * 120]:
        hands.wall += slew
        for _ in range(4):
            hands.pass_(250)
            assert last <= hands.clock.now_ms() <= last + 250 + SLEW_MS
            last = hands.clock.now_ms()
        step = hands.clock.observe()  # many small ones can add up to a step before they are followed
        if step is not None:
            assert abs(step.by_ms) > STEP_MS
            last = hands.clock.now_ms()
    assert hands.clock.now_ms() == hands.wall


def test_without_a_clock_chip_time_goes_on_from_the_journal_until_somebody_knows_it() -> None:
    hands = Hands(wall=17_000)
    hands.clock.begin(NOW)
    assert hands.clock.provisional
    assert hands.clock.now_ms() == NOW + 1
    hands.settle()
    assert hands.clock.now_ms() == NOW + 30_001
    hands.wall = NOW + HOUR
    assert hands.clock.observe() == Step(HOUR - 30_001, NOW + 30_001)
    assert hands.clock.observe() is None
    assert hands.clock.now_ms() == NOW + HOUR


def test_on_an_empty_journal_time_begins_no_earlier_than_the_release() -> None:
    hands = Hands(wall=0)
    hands.clock.begin(0)
    assert hands.clock.now_ms() == RELEASED_MS


def test_a_wall_clock_behind_the_journal_is_believed_when_a_time_server_or_a_person_says_so() -> None:
    served, set_ = Hands(), Hands()
    for hands in (served, set_):
        hands.clock.begin(NOW + HOUR)
        assert hands.clock.provisional
        hands.settle()
    served.served = True
    assert served.clock.observe() == Step(-HOUR - 1, NOW + HOUR + 30_001)
    set_.wall += 5_000
    step = set_.clock.observe()
    assert step is not None
    assert step.by_ms == 5_000 - HOUR - 1


def test_a_restart_that_is_quicker_than_a_slew_doubts_nothing() -> None:
    hands = Hands()
    hands.clock.begin(NOW + STEP_MS - 1)
    assert not hands.clock.provisional
    assert hands.clock.now_ms() == NOW + STEP_MS
    hands.settle()
    assert hands.clock.now_ms() == hands.wall


def test_a_wall_clock_that_falls_back_to_1970_is_not_followed() -> None:
    hands = Hands()
    hands.wall = 0
    assert hands.clock.observe() is None
    assert hands.clock.provisional
    assert hands.clock.now_ms() == NOW
    hands.wall = NOW
    assert hands.clock.observe() == Step(0, NOW)


def test_what_the_computer_slept_is_a_step_whose_time_has_really_passed() -> None:
    hands = Hands()
    hands.asleep += HOUR
    hands.wall += HOUR
    step = hands.clock.observe()
    assert step == Step(HOUR, NOW, HOUR)
    assert step.postpone_ms == 0


def test_a_step_that_was_taken_back_is_found_again() -> None:
    for by in (HOUR, -HOUR):
        hands = Hands()
        hands.wall += by
        hands.clock.observe()
        hands.clock.take_back(by, provisional=False)
        assert hands.clock.now_ms() == NOW
        assert hands.clock.observe() == Step(by, NOW)


def test_how_long_it_runs_is_touched_by_no_step() -> None:
    hands = Hands()
    hands.pass_(7_000)
    hands.wall += HOUR
    hands.clock.observe()
    assert hands.clock.running_ms() == 7_000


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_start_of_the_same_boot_goes_on_and_finds_what_was_done_to_the_wall_clock_meanwhile(
    by: int,
) -> None:
    hands = Hands()
    footing = replace(hands.clock.footing, boot=7)
    hands.pass_(60_000)
    hands.wall += by
    clock = hands.another(boot=7)
    clock.begin(NOW + 5_000, footing)
    assert (clock.now_ms(), clock.provisional) == (NOW + 60_000, False)
    assert clock.observe() == Step(by, NOW + 60_000)


@pytest.mark.parametrize(
    ("before", "after"), [(7, 8), (0, 0), (7, 7)], ids=["another", "unknown", "impossible"]
)
def test_a_footing_of_another_boot_is_none(before: int, after: int) -> None:
    hands = Hands()
    footing = replace(hands.clock.footing, boot=before)
    hands.pass_(1_000)
    hands.wall -= HOUR
    clock = hands.another(boot=after)
    clock.begin(NOW + 3_000, footing)  # later than a clock that began there could be
    assert (clock.now_ms(), clock.provisional) == (NOW + 3_001, True)
