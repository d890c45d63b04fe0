"""What a question about a device names: its kind, its points, the device itself, and what was probably meant.

A word that nothing is called must not be answered as if nothing had happened. The kinds and points are checked here,
the device at the node; while that does not answer, nobody can say whether a device exists, so nothing is refused.
"""

import msgspec
from fastapi import HTTPException

from devices.faults import nearest
from devices.kinds import KINDS
from devices.kinds.commands import CommandResult
from devices.kinds.traits import Kind
from edge.control_client import ControlClient, NodeAwayError, OrderRefusedError

NEIGHBOURS = 500
"""Devices that are compared with a name that nothing has."""


STATE = "state"
"""What a status message holds."""


class _Neighbour(msgspec.Struct, frozen=True):
    address: str
    device: str


class _Neighbours(msgspec.Struct, frozen=True):
    items: list[_Neighbour]


def checked_points(kind: str, written: str | None) -> list[str] | None:
    """The points of ``a,b``; None for all. Raises `HTTPException` for a kind or a point that there is not."""
    known = _names_of(_kind(kind))
    if not written:
        return None
    points = [name.strip() for name in written.split(",")]
    for name in points:
        if name not in known:
            reason = f"points: {kind} has no point {name!r}; it has {', '.join(sorted(known))}"
            raise HTTPException(422, reason + _meant(nearest(name, known)))
    return points


async def must_exist(node: ControlClient, site: str, kind: str, device: str) -> None:
    """Raises `HTTPException` where the node says that there is no such device."""
    if not _kind(kind).on_wire:
        return
    try:
        await node.request("device", address=f"{site}/{kind}/{device}")
    except OrderRefusedError as error:
        if error.code != "not_found":
            raise
        raise await no_device(node, site, kind, device) from error
    except NodeAwayError:
        return


async def no_device(node: ControlClient, site: str, kind: str, device: str) -> HTTPException:
    """What to answer about a device that the node does not know."""
    _kind(kind)
    begins = f"{site}/{kind}/{device[: len(device) // 2]}"
    page = await node.request("devices", kind=kind, after=begins, limit=NEIGHBOURS)
    names = [one.device for one in msgspec.json.decode(page, type=_Neighbours).items]
    detail = f"there is no {kind} {device}: GET /api/v1/devices?kind={kind} lists them"
    return HTTPException(404, detail + _meant(nearest(device, names)))


def checked_kind(name: str | None) -> None:
    """Raises `HTTPException` for a filter by a kind that there is not."""
    if name is not None and name not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise HTTPException(
            422, f"kind: there is no {name!r}; known are {known}{_meant(nearest(name, KINDS))}"
        )


def _kind(name: str) -> Kind:
    kind = KINDS.get(name)
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise HTTPException(404, f"there is no kind {name}; known are {known}{_meant(nearest(name, KINDS))}")
    return kind


def _names_of(kind: Kind) -> frozenset[str]:
    """All that a reading of the kind can hold."""
    structs: list[type[msgspec.Struct]] = [
        kind.telemetry,
        CommandResult,
        *([] if kind.event is None else [kind.event]),
    ]
    return frozenset({STATE, *(field.name for each in structs for field in msgspec.structs.fields(each))})


def _meant(near: str | None) -> str:
    return "" if near is None else f"; did you mean {near!r}?"
