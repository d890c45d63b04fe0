"""Orders and what became of them, as programs are told: the JSON of `anlin orders` and of the API. Values only."""

import msgspec

from devices.readings import Address, Scalar, parts_of
from edge.store.records import OrderRecord, OrderStatus


class OrderView(msgspec.Struct, frozen=True):
    """An order for programs; times are Unix milliseconds."""

    id: str
    address: Address
    kind: str
    device: str
    command: str
    args: dict[str, Scalar]
    by: str | None
    """The person who gave it."""
    alarm_id: str | None
    """The alarm that gave it."""
    issued_at: int
    expires_at: int
    status: OrderStatus
    detail: str | None
    """What the device said with it."""
    at: int
    """When the status was told."""


def view_of(record: OrderRecord) -> OrderView:
    """As programs are told."""
    order = record.order
    _, kind, device = parts_of(order.address)
    return OrderView(
        id=order.id,
        address=order.address,
        kind=kind,
        device=device,
        command=order.command,
        args=order.args,
        by=order.by or None,
        alarm_id=order.alarm_id or None,
        issued_at=order.issued_at,
        expires_at=order.expires_at,
        status=record.status,
        detail=record.detail,
        at=record.at,
    )
