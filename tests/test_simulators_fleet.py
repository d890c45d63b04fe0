"""Fleets: who stands where, how much they say, and that the gateway's registry takes them."""

import json
from collections import Counter

import pytest

from devices.documents import Tree
from devices.readings import Channel, address_of
from devices.registry import parse_registry
from simulators.device import Happening, Status
from simulators.fleet import Fleet, Tempo, community, registry_tree

COUNTS = {"charger": 50, "smoke": 600, "button": 120, "elevator": 12, "siren": 3, "broadcast": 3}


def said(fleet: Fleet, until_s: float) -> list[tuple[str, float, str]]:
    return [
        (str(member.address), message.at_s, json.dumps(dict(message.payload)))
        for member, message in fleet.advance_to(until_s)
    ]


def test_a_community_has_the_names_of_the_contract_and_each_once() -> None:
    placements = community(COUNTS)
    assert Counter(one.kind for one in placements) == COUNTS
    names = {one.id for one in placements}
    assert {"shed1-p07", "sm0007", "bt0042", "lift-3-2-a"} <= names
    assert len(names) == len(placements)
    homes = [tuple(one.place.values()) for one in placements if one.kind == "smoke" and "room" in one.place]
    assert len(set(homes)) == len(homes), "one sensor a home"
    assert [one.group for one in placements if one.id == "sm0002"] == ["shed-1"]


@pytest.mark.parametrize("smoke", [30, 3_000])
def test_the_gateways_registry_takes_exactly_these_devices(smoke: int) -> None:
    placements = community({**COUNTS, "smoke": smoke})
    tree: Tree = json.loads(json.dumps(registry_tree(placements)))
    registry = parse_registry(tree, "registry.yaml", "c1")
    assert set(registry.addresses) == {address_of("c1", one.kind, one.id) for one in placements}


def test_a_fleet_depends_on_its_seed_alone() -> None:
    placements = community({"charger": 5, "smoke": 5, "button": 5, "elevator": 2})
    first, again = (said(Fleet(placements, seed=3, tempo=Tempo(rate=2)), 600) for _ in range(2))
    assert first == again
    assert first != said(Fleet(placements, seed=4, tempo=Tempo(rate=2)), 600)


def test_one_device_more_changes_nothing_for_the_others() -> None:
    few, many = (community({"charger": count}) for count in (3, 4))
    one, other = (said(Fleet(placements), 600) for placements in (few, many))
    assert one == [line for line in other if "p04" not in line[0]]


@pytest.mark.parametrize(("rate", "speed"), [(5, 1), (50, 1), (400, 1), (20, 10)])
def test_the_fleet_says_about_as_much_as_asked(rate: float, speed: float) -> None:
    placements = community({"charger": 100, "smoke": 200, "button": 60, "elevator": 4})
    fleet = Fleet(placements, tempo=Tempo(rate=rate, speed=speed))
    said(fleet, 30 * speed)
    telemetry = sum(
        message.channel is Channel.TELEMETRY for _, message in fleet.advance_to((30 + 120) * speed)
    )
    assert telemetry / 120 == pytest.approx(rate, rel=0.35)


def test_messages_of_all_devices_come_in_the_order_of_their_times() -> None:
    times = [at_s for _, at_s, _ in said(Fleet(community({"charger": 20, "elevator": 5})), 900)]
    assert times == sorted(times)


def test_what_a_device_says_about_an_order_or_a_fault_comes_with_the_next_advance() -> None:
    fleet = Fleet(community({"charger": 1, "button": 1}))
    said(fleet, 100)
    port, button = fleet.members
    fleet.happen(button, Happening("action", "emergency"))
    fleet.happen(button, Happening("action", "cancel"))
    assert fleet.obey(port, "cut_power", {}).status is Status.DONE
    fleet.introduce(button)
    now = said(fleet, 100)
    assert [line[2] for line in now if "bt0001" in line[0]] == [
        '{"action": "emergency"}',
        '{"action": "cancel"}',
    ]
    assert any('"power": 0.0' in line[2] for line in now)
