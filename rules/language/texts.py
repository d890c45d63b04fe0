"""Message texts: templates such as ``Charging port {device} is at {temperature:.0f} °C``.

Checked when the file is read: known names, format codes that fit their type, bounded width. Rendering can
neither fail nor be slow: an absent value prints as –, and no value prints more than `VALUE_LIMIT` characters.

Besides its points a text may name ``device kind site building unit floor room place_floor track`` and
``place``, which is all that is known of the place in one phrase. Where a kind has a point called ``floor``
(a lift), ``floor`` is that point; ``place_floor`` is always the floor where the device stands.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from string import Formatter

from devices.faults import nearest
from devices.readings import Scalar
from rules.definitions import Points, Text
from rules.language.entries import Entry
from rules.vocabulary import Point, Sort, Vocabulary


class Language(StrEnum):
    """The languages that every text is written in."""

    EN = "en"
    ZH = "zh"


ABSENT = "–"
LENGTH_LIMIT = 500
"""Characters of one template."""
VALUE_LIMIT = 64
"""Characters that one value may become."""

DEVICE_NAMES = frozenset(
    {"device", "kind", "site", "building", "unit", "floor", "room", "place_floor", "track", "place"}
)
"""What every text may name, whatever the kind."""

_Piece = Callable[[Points], str]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CODE = re.compile(r"[<>^]?[+]?0?[0-9]{0,2},?(?:\.[0-9]{1,2})?[a-z%]?\Z")
_NUMBER_SAMPLES = (-1.5, 0.0, 71.25, 20_000, 1e300)
"""A number arrives as a float or as an int, so a code must take both (``d`` does not)."""

_YES_NO = {Language.EN: ("no", "yes"), Language.ZH: ("否", "是")}
_UNITS = {
    Language.EN: ((86_400, " d"), (3_600, " h"), (60, " min"), (1, " s")),
    Language.ZH: ((86_400, "天"), (3_600, "小时"), (60, "分"), (1, "秒")),
}
_UNPLACED = {Language.EN: "place not registered", Language.ZH: "位置未登记"}
EVERYWHERE = "everywhere"
"""A name that says of an alarm without a place that it is about all places."""
_EVERYWHERE = {Language.EN: "the whole site", Language.ZH: "整个小区"}
_PLACES = {
    Language.EN: (
        ("building", "building {}"),
        ("unit", "unit {}"),
        ("place_floor", "floor {}"),
        ("room", "room {}"),
    ),
    Language.ZH: (("building", "{}号楼"), ("unit", "{}单元"), ("place_floor", "{}层"), ("room", "{}室")),
}
_LATE = {Language.EN: (" (late)", " (late: so at {})"), Language.ZH: ("（迟报）", "（迟报：发生于 {}）")}
_UNHEARD = {Language.EN: " (never heard)", Language.ZH: "（登记后从未收到数据）"}
_JOINED = {Language.EN: ("{}", ", "), Language.ZH: ("{} ", "")}
"""How a name that is no number stands among the others, and what stands between them."""


class TextError(ValueError):
    """A template that cannot be used: correct it in the rule file."""

    def __init__(self, reason: str, *, value: str | None = None, nearest: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value
        self.nearest = nearest


def compile_text(source: str, vocabulary: Vocabulary, language: Language, *, events: bool = True) -> Text:
    """Check and compile a template. ``events``: the rule looks at events, so their fields have values.

    Raises `TextError`, nothing else.
    """
    if not source.strip():
        raise TextError("an empty text")
    if len(source) > LENGTH_LIMIT:
        raise TextError(f"{len(source)} characters, at most {LENGTH_LIMIT}")
    if not source.isprintable():
        raise TextError("must be one line of printable characters")
    pieces = tuple(_pieces(source, vocabulary, language, events=events))

    def render(values: Points) -> str:
        return "".join([piece(values) for piece in pieces])

    names = frozenset(name for _, name, _, _ in Formatter().parse(source) if name)
    return Text(source, render, names)


def late_note(language: Language, told: datetime, so: datetime | None) -> str:
    """What follows the text of an alarm that is ``told`` later than it was ``so`` (local times; None: unknown)."""
    when = "" if so is None else f"{so:%H:%M}" if so.date() == told.date() else f"{so:%Y-%m-%d %H:%M}"
    return _LATE[language][bool(when)].format(when)


def on_one_line(text: str) -> str:
    """What was said, without signs that steer a terminal or begin another line."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


def unheard_note(language: Language) -> str:
    """What follows the text of a silence of devices that nobody has ever heard."""
    return _UNHEARD[language]


def read_texts(owner: Entry, vocabulary: Vocabulary, *, events: bool = True) -> dict[str, Text]:
    """The ``text`` of a mapping of a rule file, in every language; faults go into it."""
    entry = check_languages(owner)
    if entry is None:
        return {}
    texts = {}
    for language in Language:
        source = entry.text(language)
        if source is None:
            continue
        try:
            texts[str(language)] = compile_text(source, vocabulary, language, events=events)
        except TextError as error:
            entry.fault(language, error.reason, value=error.value or source, nearest=error.nearest)
    return texts


def check_languages(owner: Entry) -> Entry | None:
    """The ``text`` of a mapping, which must be in every language; faults go into it."""
    entry = owner.entry("text")
    languages = [str(language) for language in Language]
    if entry is not None and entry.fields:
        entry.known(languages, required=languages)
    return entry


def _pieces(source: str, vocabulary: Vocabulary, language: Language, *, events: bool) -> Iterator[_Piece]:
    try:
        fields = list(Formatter().parse(source))
    except ValueError as error:
        raise TextError(f"braces do not match ({error}); a brace itself is written {{{{ or }}}}") from error
    for literal, name, code, conversion in fields:
        if literal:
            yield _literal(literal)
        if name is None:
            continue
        if not _NAME.match(name):
            raise TextError("between braces stands one name, and nothing else", value=name[:64])
        if conversion is not None:
            raise TextError("! is not part of a text", value=f"{name}!{conversion}"[:64])
        yield _value(name, code or "", vocabulary, language, events=events)


def _literal(text: str) -> _Piece:
    return lambda _values: text


def _value(name: str, code: str, vocabulary: Vocabulary, language: Language, *, events: bool) -> _Piece:
    point = vocabulary.points.get(name)
    if point is None and name not in DEVICE_NAMES:
        reason = f"a text about {vocabulary.kind.name} has no such name"
        raise TextError(reason, value=name[:64], nearest=nearest(name, {*vocabulary.points, *DEVICE_NAMES}))
    if point is not None and point.private:
        raise TextError("tells of a person's daily life and is never shown in a text", value=name)
    if point is not None and point.event and not events:
        raise TextError("has a value only in an event, and this rule looks at none", value=name)
    _check_code(name, code, point)
    if name == "place":
        return _place(language)
    if point is not None and point.sort is Sort.NUMBER:
        return _number(name, code)
    if point is not None and point.sort is Sort.DURATION:
        return _duration(name, code, language)
    no, yes = _YES_NO[language]

    def words(values: Points) -> str:
        value = values.get(name)
        if value is None:
            return ABSENT
        return _formatted(yes if value is True else no if value is False else str(value), code)

    return words


def _check_code(name: str, code: str, point: Point | None) -> None:
    number = point is not None and point.sort is Sort.NUMBER
    samples: tuple[Scalar, ...] = _NUMBER_SAMPLES if number else ("words",)
    if any(int(digits) > VALUE_LIMIT for digits in re.findall("[0-9]{1,9}", code)):
        raise TextError(f"a width of at most {VALUE_LIMIT}", value=f"{name}:{code}"[:64])
    if not _CODE.match(code):
        raise TextError("not a format code", value=f"{name}:{code}"[:64])
    try:
        for sample in samples:
            format(sample, code)
    except ValueError as error:
        what = Sort.NUMBER if number else Sort.TEXT
        raise TextError(f"this format code does not fit {what}", value=f"{name}:{code}"[:64]) from error


def _number(name: str, code: str) -> _Piece:
    def number(values: Points) -> str:
        value = values.get(name)
        if value is None:
            return ABSENT
        try:
            return _short(format(value, code) if code else _plain(value))
        except (ValueError, TypeError, OverflowError):  # a value that no decoder lets through
            return ABSENT

    return number


def _duration(name: str, code: str, language: Language) -> _Piece:
    def duration(values: Points) -> str:
        value = values.get(name)
        if not isinstance(value, int | float):
            return ABSENT
        return _formatted(_lasting(float(value), language), code)

    return duration


def _lasting(seconds: float, language: Language) -> str:
    """The two largest units that say something: 1 h 20 min, 1小时20分."""
    left = int(seconds)
    told: list[str] = []
    for size, unit in _UNITS[language]:
        count, left = divmod(left, size)
        if count or (size == 1 and not told):
            told.append(f"{count}{unit}")
        elif told:
            break
    return ("" if language is Language.ZH else " ").join(told[:2])


def _plain(value: Scalar) -> str:
    """A number as a person writes it: at most two decimals, no trailing zeros."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _formatted(text: str, code: str) -> str:
    return _short(format(_short(text), code))


def _short(text: str) -> str:
    """Bounded and on one line, whatever a device calls its session."""
    if len(text) > VALUE_LIMIT:
        text = text[: VALUE_LIMIT - 1] + "…"
    return on_one_line(text)


def _place(language: Language) -> _Piece:
    """All that is known of the place; a name that is no number (``shed-1``) needs no word beside it."""
    bare, separator = _JOINED[language]

    def place(values: Points) -> str:
        told = []
        for name, phrase in _PLACES[language]:
            value = values.get(name)
            if value is not None:
                text = _short(str(value))
                told.append((phrase if text[:1].isdigit() else bare).format(text))
        unplaced = _EVERYWHERE if values.get(EVERYWHERE) else _UNPLACED
        return separator.join(told).rstrip() or unplaced[language]

    return place
