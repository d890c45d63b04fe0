"""devices.registry: the file of the contract's section 7. Bad files: bad_configs/registry, in test_cli.py."""

from datetime import date
from pathlib import Path
from time import process_time

import pytest

from devices.documents import parse_yaml
from devices.faults import ConfigurationError
from devices.readings import Address
from devices.registry import Place, Registry, parse_floors, parse_registry

ROOT = Path(__file__).resolve().parent.parent

CONTRACT = """
places:
  - {building: "3", unit: "2", floors: 1-33}
  - {building: shed-1, kind: charging_shed}
devices:
  - {id: sm0007, kind: smoke, building: "3", unit: "2", floor: "11", room: "1102",
     household: h-0311, installed: 2025-06-01}
  - {id: shed1-p07, kind: charger, building: shed-1, group: shed-1}
  - {id: lift-3-2-a, kind: elevator, building: "3", unit: "2"}
  - {id: bt0042, kind: button, building: "3", unit: "2", floor: "11", room: "1102", household: h-0311}
"""


def read(text: str) -> Registry:
    return parse_registry(parse_yaml(text, "r.yaml"), "r.yaml", "c1")


def test_the_contracts_example_is_read_whole() -> None:
    registry = read(CONTRACT)
    assert registry.places == (
        Place("3", "2", frozenset(map(str, range(1, 34)))),
        Place("shed-1", kind="charging_shed"),
    )
    smoke = registry.device(Address("c1/smoke/sm0007"))
    assert smoke is not None
    assert smoke.place == {"building": "3", "unit": "2", "floor": "11", "room": "1102"}
    assert (smoke.household, smoke.installed, smoke.group, smoke.buffers) == (
        "h-0311", date(2025, 6, 1), None, False,
    )  # fmt: skip
    lift = registry.device(Address("c1/elevator/lift-3-2-a"))
    assert lift is not None
    assert lift.place == {"building": "3", "unit": "2"}
    assert registry.groups == {"shed-1": (Address("c1/charger/shed1-p07"),)}
    assert list(registry.addresses) == [
        "c1/smoke/sm0007", "c1/charger/shed1-p07", "c1/elevator/lift-3-2-a", "c1/button/bt0042",
    ]  # fmt: skip


def test_the_shipped_example_is_read() -> None:
    text = (ROOT / "deploy/registry.example.yaml").read_text(encoding="utf-8")
    assert {kind for _, kind, _ in (address.split("/") for address in read(text).addresses)} == {
        "smoke", "charger", "elevator", "button", "siren",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", "places:\ndevices:\n"])
def test_an_empty_file_declares_nothing(text: str) -> None:
    assert read(text) == Registry()


def test_a_device_that_is_not_declared_is_none() -> None:
    registry = read(CONTRACT)
    assert registry.device(Address("c1/smoke/sm9999")) is None
    assert registry.device(Address("c2/smoke/sm0007")) is None


def test_two_kinds_may_share_a_name() -> None:
    assert len(read("devices: [{id: a1, kind: smoke}, {id: a1, kind: button}]").devices) == 2


def test_a_room_0102_stays_0102_and_names_may_be_chinese() -> None:
    registry = read(
        "places: [{building: 三号楼}]\ndevices: [{id: a1, kind: smoke, building: 三号楼, room: 0102}]"
    )
    (device,) = registry.devices.values()
    assert device.place == {"building": "三号楼", "room": "0102"}


def test_buffers_and_groups_are_read() -> None:
    registry = read(
        "devices:\n- {id: a, kind: smoke, buffers: true, group: g}\n"
        "- {id: b, kind: charger, buffers: false, group: g}\n"
    )
    assert [device.buffers for device in registry.devices.values()] == [True, False]
    assert registry.groups == {"g": (Address("c1/smoke/a"), Address("c1/charger/b"))}


@pytest.mark.parametrize(
    ("written", "floors"),
    [
        ("1-3", {"1", "2", "3"}),
        ("B2-B1, 1-2", {"B1", "B2", "1", "2"}),
        ("-2--1,1", {"-2", "-1", "1"}),
        ("-1-1", {"-1", "0", "1"}),
        ("3-1", {"1", "2", "3"}),
        ("6A,G1", {"6A", "G1"}),
        ("ground", None),
        ("1-", None),
        ("1,,2", None),
        ("B1-C3", None),
        ("1-99999", None),
    ],
)
def test_floors_are_ranges_and_lists(written: str, floors: set[str] | None) -> None:
    assert parse_floors(written) == floors


def smoke_in_room(device_id: str, room: str) -> Registry:
    return read(
        f"places: [{{building: a}}]\n"
        f"devices: [{{id: {device_id}, kind: smoke, building: a, room: '{room}'}}]\n"
    )


@pytest.mark.parametrize(
    ("device_id", "room"),
    [("sm0007", "07"), ("sm12", "12"), ("bt0042", "1102"), ("sm-11", "1102")],
)
def test_a_short_or_another_room_number_in_an_id_is_chance(device_id: str, room: str) -> None:
    assert len(smoke_in_room(device_id, room).devices) == 1


@pytest.mark.parametrize(
    ("device_id", "room"), [("3-2-1102", "1102"), ("SM11A", "1-1a"), ("x.11_02", "1102")]
)
def test_an_id_that_gives_the_room_away_is_refused_however_it_is_punctuated(
    device_id: str, room: str
) -> None:
    with pytest.raises(ConfigurationError, match="contains the room number"):
        smoke_in_room(device_id, room)


def test_one_mistake_is_told_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(
            "places: [{building: a}]\ndevices: [{id: s, kind: smoke, building: ' a', unit: '1', floor: '2'}]"
        )
    assert len(caught.value.faults) == 1


def test_five_thousand_devices_are_read_in_a_moment() -> None:
    text = 'places: [{building: "3", unit: "2", floors: 1-33}]\ndevices:\n' + "".join(
        f'  - {{id: sm{n:05d}, kind: smoke, building: "3", unit: "2", floor: "11", room: a-{n}-b,\n'
        f"     household: h-{n}, installed: 2025-06-01}}\n"
        for n in range(5_000)
    )
    begun = process_time()
    registry = read(text)
    assert process_time() - begun < 1.5
    assert len(registry.devices) == 5_000
