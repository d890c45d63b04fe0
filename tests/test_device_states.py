"""What the API says of a device: normal, alarm or unknown; silence means neither normal nor the end of an alarm."""

import asyncio
from pathlib import Path

from devices.readings import Scalar, address_of
from edge.control import Request
from edge.desks.desk import Desk
from edge.desks.device_desk import DeviceView
from rules.state import Device, Ongoing
from tests.test_vitals import vital


def device(*ongoing: tuple[str, int | None], last_seen: int = 1, **facts: object) -> Device:
    known = Device(address_of("c1", "smoke", "s"), "smoke", dict[str, Scalar](), last_seen=last_seen)
    known.ongoing = {rule: Ongoing(rule, due=due) for rule, due in ongoing}
    for name, fact in facts.items():
        setattr(known, name, fact)
    return known


STATES = [
    (device(), "normal"),
    (device(("fire", 9)), "normal"),
    (device(("fire", None)), "alarm"),
    (device(("fire", None), online=False), "alarm"),
    (device(("silent", None), silences=("silent",)), "unknown"),
    (device(("fire", None), ("silent", None), silences=("silent",)), "alarm"),
    (device(silences=("silent",)), "unknown"),
    (device(online=False), "unknown"),
    (device(last_seen=0), "unknown"),
]


def test_a_device_is_normal_only_where_it_was_heard_and_nothing_stands(tmp_path: Path) -> None:
    async def story() -> None:
        async with vital(tmp_path) as (world, _, desk):
            for known, state in STATES:
                world.node.intake.state.devices[known.address] = known
                assert (await view(desk, known.address)).state == state

    asyncio.run(story())


async def view(desk: Desk, address: str) -> DeviceView:
    found = await desk.answer(
        Request(id=1, op="device"), b'{"op": "device", "address": "%s"}' % address.encode()
    )
    assert isinstance(found, DeviceView)
    return found
