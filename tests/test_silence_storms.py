"""Thousands fall silent together: what that costs, and that what is remembered to save it changes nothing."""

from time import process_time
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.annunciation.common_causes import Folds
from tests.around_world import SILENT, Community

SILENT_SMOKE = (
    SILENT.replace("kind: charger", "kind: smoke")
    .replace("same: [group", "same: [floor")
    .replace("2m", "10m")
)
HOUR_S = 3_600


def town(count: int, buildings: int = 4) -> str:
    places = [f'  - {{building: "{number}", unit: "1", floors: 1-33}}\n' for number in range(buildings)]
    devices = [
        f'  - {{id: s{n}, kind: smoke, building: "{n % buildings}", unit: "1", floor: "{n // buildings % 33 + 1}"}}\n'
        for n in range(count)
    ]
    return "".join(["places:\n", *places, "devices:\n", *devices])


def silence(count: int, *, share: float) -> tuple[Community, float]:
    """All speak, then only some; gives the CPU seconds of the moment at which the others are missed."""
    world = Community(SILENT_SMOKE, town(count))
    for number in range(count):
        world.hear(number / 1_000, "smoke", f"s{number}", smoke=False)
    for number in range(int(count * share), count):
        world.hear(590 + number / 1_000, "smoke", f"s{number}", smoke=False)
    begun = process_time()
    world.at(605)
    return world, process_time() - begun


def cost(count: int, share: float) -> float:
    return min(silence(count, share=share)[1] for _ in range(3))


def test_what_thousands_cost_that_fall_silent_together_grows_with_their_number_and_not_with_its_square() -> (
    None
):
    for share in (0.5, 1.0):
        assert cost(2_000, share) < 8 * cost(500, share)  # sixteen times as much, if each looked at all


def test_of_all_that_fall_silent_together_people_are_told_once() -> None:
    world, _ = silence(500, share=1.0)
    [fold] = [alarm for alarm in world.state.alarms.values() if alarm.track == "site"]
    world.at(HOUR_S)
    assert world.state.alarms[fold.key].values == {"count": 500, "heard": 500}


SPEAK = st.tuples(st.sampled_from([0.0, 0.5, 30.0, 200.0, 590.0]), st.integers(0, 11), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(SPEAK, max_size=60))
def test_what_is_remembered_of_a_storm_changes_nothing(story: list[tuple[float, int, bool]]) -> None:
    def play() -> Community:
        world, second = Community(SILENT_SMOKE, town(12, buildings=2)), 0.0
        for gap, who, restarts in story:
            second += gap
            world.hear(second, "smoke", f"s{who}", smoke=False)
            if restarts and gap > HOUR_S / 10:
                world.restart()
        world.at(second + HOUR_S)
        return world

    quick = play()
    with (
        patch.object(Folds, "is_spread", lambda *_: False),
        patch.object(Folds, "_are_well", lambda *_: False),
    ):
        thorough = play()
    assert quick.said == thorough.said
    assert quick.state.alarms == thorough.state.alarms
