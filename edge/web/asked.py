"""What a question about a device names: its kind, its points, the device itself, and what was probably meant.

A word that nothing is called must not be answered as if nothing had happened. The kinds and points are checked here,
the device at the node; while that does not answer, nobody can say whether a device exists, so nothing is refused.
"""

from contextlib import suppress

import msgspec
from fastapi import HTTPException

from devices.faults import nearest
from devices.kinds import KINDS
from devices.kinds.commands import CommandResult
from devices.kinds.traits import Kind
from edge.control_client import ControlClient, NodeAwayError, OrderRefusedError

STATE = "state"
"""What a status message holds."""


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


async def device_of(node: ControlClient, site: str, kind: str, device: str) -> msgspec.Raw:
    """What the node says of a device. Raises `HTTPException` where it knows none, with whom it thinks was meant."""
    _kind(kind)
    try:
        return await node.request("device", address=f"{site}/{kind}/{device}")
    except OrderRefusedError as error:
        if error.code != "not_found":
            raise
        raise HTTPException(404, f"{error} (GET /api/v1/devices?kind={kind} lists them)") from error


async def must_exist(node: ControlClient, site: str, kind: str, device: str) -> None:
    """Raises `HTTPException` where the node says that there is no such device; what is on no wire has no device."""
    if _kind(kind).on_wire:
        with suppress(NodeAwayError):
            await device_of(node, site, kind, device)


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
