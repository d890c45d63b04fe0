"""From bytes to a reading, or to the reason why not.

A bad payload is normal: it raises `Rejected`, whose ``reason`` is a closed set that is counted and shown.
Unknown fields are kept beside the reading; a wrong type or an impossible value rejects the whole message.
"""

import sys
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from devices.readings import Channel, Flag, Reading, Scalar
from devices.schemas import Schema
from devices.topics import Route

PAYLOAD_LIMIT = 256 * 1024
"""Bytes; no message of the contract comes near it."""

EXTRA_DEPTH = 16
"""Levels of an unknown field that are kept."""

EXTRA_DIGITS = 64

STAMP_KEPT = 64
"""Characters of a ``ts`` that is no time."""

AHEAD_MS = 5 * 60_000
BEHIND_MS = 60 * 60_000
"""``ts`` is believed from 5 minutes ahead to 1 hour behind the arrival (contract, section 2)."""


class Reason(StrEnum):
    """Why a message was rejected."""

    BAD_TOPIC = "bad_topic"
    UNKNOWN_KIND = "unknown_kind"
    NO_EVENTS = "no_events"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    BAD_UTF8 = "bad_utf8"
    NOT_AN_OBJECT = "not_an_object"
    BAD_VALUE = "bad_value"
    BAD_TIME = "bad_time"
    BAD_STATUS = "bad_status"
    UNDECIDED = "undecided"
    """Nothing is wrong with it: the engine failed at it."""


class Rejected(ValueError):
    """The message says nothing that can be used: drop it, count it, keep its bytes for a person to look at."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class _Status(msgspec.Struct, frozen=True):
    state: object = None


class _Stamped(msgspec.Struct, frozen=True):
    ts: object = None


_FLOAT_MOST = int(sys.float_info.max)
_JSON = msgspec.json.Decoder()
_STAMPED = msgspec.json.Decoder(_Stamped)


def decode(
    route: Route,
    payload: bytes,
    received_at: int,
    flags: int = 0,
    buffers: bool = False,  # noqa: FBT001, FBT002 - every message would pay for its name
) -> Reading:
    """Decode one message that came on ``route`` at ``received_at`` (Unix ms).

    ``buffers``: the device is declared to store and forward, so its old times are believed.
    Raises `Rejected`, never anything else.
    """
    if len(payload) > PAYLOAD_LIMIT:
        raise Rejected(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {PAYLOAD_LIMIT}")
    if route.channel is Channel.STATUS:
        state = _status(payload)
        return Reading(Channel.STATUS, route.address, {"state": state}, received_at, received_at, flags)
    schema, extra = route.schema, None
    try:
        values = schema.read(payload)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        values = None
    if values is None or len(values) != payload.count(b":"):  # a colon a field, or some are not known
        values, extra = _read_slowly(schema, payload)
    message_id = values.pop("id", None)
    if message_id is not None and type(message_id) is not str:
        message_id = _id_text(message_id)
    stamp = values.pop("ts", None)
    source_time, kept = received_at, None
    if type(stamp) is int and received_at - BEHIND_MS <= stamp <= received_at + AHEAD_MS:
        source_time = stamp  # what nearly every message has, without a call
    elif stamp is not None:
        source_time, flag, kept = _believe(stamp, received_at, buffers=buffers)
        flags |= flag
    return Reading(
        route.channel, route.address, values, source_time, received_at, flags, message_id, kept, extra
    )


def stamp_of(reading: Reading, payload: bytes) -> int | None:
    """The ``ts`` of the ``payload`` that `decode` has made ``reading`` of (Unix ms), believed or not; None without."""
    if reading.ts is not None:
        return milliseconds(reading.ts)
    if reading.source_time != reading.received_at:
        return reading.source_time
    stamp = _STAMPED.decode(payload).ts  # heard in the very millisecond that it names, or it names none
    return None if stamp is None else milliseconds(stamp)


def _unreadable(error: Exception) -> Rejected:
    return Rejected(
        Reason.BAD_UTF8 if isinstance(error, UnicodeDecodeError) else Reason.MALFORMED, str(error)
    )


def _read_slowly(schema: Schema, payload: bytes) -> tuple[dict[str, Any], dict[str, object] | None]:
    """What `Schema.read` gives, with nulls taken as absent points; and the unknown fields.

    Raises `Rejected` for what is still wrong.
    """
    try:
        fields = _JSON.decode(payload)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise _unreadable(error) from error
    if type(fields) is not dict:
        raise Rejected(Reason.NOT_AN_OBJECT, f"expected a JSON object, got {type(fields).__name__}")
    told = {name: value for name, value in fields.items() if value is not None}
    extra = {name: _tamed(told.pop(name), EXTRA_DEPTH) for name in sorted(told.keys() - schema.names)}
    try:
        schema.check(told)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Rejected(Reason.BAD_VALUE, str(error)) from error
    return told, extra or None


def _tamed(value: object, room: int) -> object:
    """An unknown value as the journal can keep it: no deeper than ``room``, whole numbers in 64 bits."""
    match value:
        case dict() | list() if room == 0:
            return None
        case dict():
            return {name: _tamed(inner, room - 1) for name, inner in value.items()}
        case list():
            return [_tamed(inner, room - 1) for inner in value]
        case int() if not -(2**63) <= value < 2**63:
            return str(value)[:EXTRA_DIGITS]
        case _:
            return value


def _id_text(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Rejected(Reason.BAD_VALUE, f"id: expected text, got {type(value).__name__}")


def _status(payload: bytes) -> Scalar:
    text: object = payload.strip().decode("utf-8", "replace")
    if payload.lstrip()[:1] == b"{":
        try:
            text = msgspec.json.decode(payload, type=_Status).state
        except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
            raise _unreadable(error) from error
    if text not in ("online", "offline"):
        raise Rejected(Reason.BAD_STATUS, "expected online or offline")
    return str(text)


def _believe(stamp: object, received_at: int, *, buffers: bool) -> tuple[int, int, int | float | str | None]:
    """Source time, flag and, where ``stamp`` is not believed, the stamp itself."""
    told = milliseconds(stamp)
    if told is None or told > received_at + AHEAD_MS:
        return received_at, Flag.CLOCK_DOUBTED, _kept(stamp)
    if told < received_at - BEHIND_MS:
        if buffers and told > 0:
            return told, Flag.LATE, None
        return received_at, Flag.CLOCK_DOUBTED, _kept(stamp)
    return told, 0, None


def _kept(stamp: object) -> int | float | str:
    """The raw stamp as the journal can keep it: MessagePack has 64 bits for a whole number, a float an end."""
    if isinstance(stamp, int) and not -(2**63) <= stamp < 2**63:
        return float(max(-_FLOAT_MOST, min(stamp, _FLOAT_MOST)))
    assert isinstance(stamp, int | float | str)  # noqa: S101 - `milliseconds` has refused all else
    return stamp[:STAMP_KEPT] if isinstance(stamp, str) else stamp


def milliseconds(stamp: object) -> int | None:
    """Unix ms of a ``ts``; None for a text that names no moment: what else the message says is as true without.

    Raises `Rejected` for what is neither number nor text.
    """
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return int(stamp)
    if not isinstance(stamp, str):
        raise Rejected(Reason.BAD_TIME, f"ts: expected milliseconds or RFC 3339, got {type(stamp).__name__}")
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
