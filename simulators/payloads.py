"""What a line of a timeline says of a device's points, fields and parameters, checked as a real message would be."""

from collections.abc import Sequence
from enum import StrEnum
from math import isfinite

import msgspec

from devices.readings import Scalar
from rules.language.entries import Entry
from simulators.device import Parameter
from simulators.spans import number, span


def read_parameter(entry: Entry, key: str, known: Parameter) -> float | None:
    """What a line says of a parameter, within its limits."""
    if known.unit == "s":
        return span(entry, key, low_s=known.low, high_s=known.high)
    return number(entry, key, known.low, known.high, known.unit)


def read_values(
    below: Entry, schema: type[msgspec.Struct], *, absent: bool = False, beside: Sequence[str] = ()
) -> dict[str, Scalar | None]:
    """Points as a message holds them, checked as a message is; None for one that is not to be said."""
    known = (*schema.__struct_fields__, *beside)
    below.known(known)
    told: dict[str, str] = {}
    values: dict[str, Scalar | None] = {}
    for name, said in below.fields.items():
        if name not in known:
            continue
        if absent and (said is None or said == "absent"):
            values[name] = None
        elif (text := below.text(name)) is not None:
            told[name] = text
    for name in beside:
        if name in told:
            word = told.pop(name)
            values[name] = int(word) if name == "ts" and word.lstrip("-").isdecimal() else word
    try:
        struct = msgspec.convert(told, schema, strict=False)
    except msgspec.ValidationError as error:
        below.fault(None, str(error))
        return values
    for name, text in told.items():
        value: Scalar = getattr(struct, name)
        if isinstance(value, float) and not isfinite(value):
            below.fault(name, "must be a number", value=text)
        else:
            values[name] = str(value.value) if isinstance(value, StrEnum) else value
    return values
