"""Logs: structured, to standard error, quiet unless something is wrong.

Anyone logs with the standard library and gives fields in ``extra``: ``log.warning("broker away",
extra={"host": host})``. Below WARNING our packages speak only if ``log.level`` says so, libraries never; the
logger `LIFE` itself always does, for the few lines that say that a process begins or ends. A line said again
is counted, not printed. Must not hold: payloads, names of people, rooms, secrets.
"""

import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TextIO

Format = Literal["auto", "text", "logfmt", "json"]

OURS = ("edge", "cloud_bridge", "simulators")
"""Packages that ``log.level`` is about, beside the loggers below ``anlin``."""

LIFE = logging.getLogger("anlin")
"""For a process's own beginning and end, at INFO: shown at every level."""

WINDOW_S = 10.0
"""A line said again within it is counted and told at its end."""

REMEMBERED = 256
"""Lines; beyond them the oldest is forgotten, so that a thousand different ones cost nothing."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure(level: str = "warning", form: Format = "auto", stream: TextIO | None = None) -> None:
    """Send the logs of this process to ``stream`` (standard error). A second call replaces the first."""
    out = stream if stream is not None else sys.stderr
    if form == "auto":
        form = "text" if out.isatty() else "logfmt"
    chosen = logging.getLevelNamesMapping()[level.upper()]
    handler = FoldingHandler(out)
    below = f"{LIFE.name}."
    handler.addFilter(lambda record: record.levelno >= chosen or not record.name.startswith(below))
    handler.setFormatter({"text": TextLines, "logfmt": LogfmtLines, "json": JsonLines}[form]())
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, FoldingHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(max(chosen, logging.WARNING))
    for package in OURS:
        logging.getLogger(package).setLevel(chosen)
    LIFE.setLevel(min(chosen, logging.INFO))
    logging.captureWarnings(capture=True)


class FoldingHandler(logging.StreamHandler[TextIO]):
    """Writes a line once; its repetitions within `WINDOW_S` become one line with their number."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._said: OrderedDict[tuple[str, int, str], _Said] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        self._tell(list(self._expired(record.created)))
        key = (record.name, record.levelno, f"{_message(record)}{_fields(record)}")
        said = self._said.get(key)
        if said is not None:
            said.repeated += 1
            said.last = record
            return
        self._said[key] = _Said(record)
        if len(self._said) > REMEMBERED:
            self._tell([self._said.popitem(last=False)[1]])
        super().emit(record)

    def close(self) -> None:
        """Tell what is still counted."""
        self._tell(self._said.values())
        self._said.clear()
        super().close()

    def _expired(self, now: float) -> Iterable["_Said"]:
        while self._said:
            key, said = next(iter(self._said.items()))
            if abs(now - said.since) < WINDOW_S:
                return
            del self._said[key]
            yield said

    def _tell(self, ended: Iterable["_Said"]) -> None:
        for said in ended:
            if said.repeated and said.last is not None:
                said.last.__dict__["repeated"] = said.repeated
                super().emit(said.last)


class _Said:
    """A line that was printed, and how often it came again."""

    __slots__ = ("last", "repeated", "since")

    def __init__(self, record: logging.LogRecord) -> None:
        self.since = record.created
        self.repeated = 0
        self.last: logging.LogRecord | None = None


class TextLines(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, fields; a trace below."""
        told = "".join(f"  {name}={_value(value)}" for name, value in _fields(record))
        time = self.formatTime(record, "%H:%M:%S")
        line = f"{time} {record.levelname:<7} {_message(record)}{told}"
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


class LogfmtLines(logging.Formatter):
    """One line an entry, ``key=value``; a trace is one of the values."""

    def format(self, record: logging.LogRecord) -> str:
        """All fields in a fixed order."""
        return " ".join(f"{name}={_value(value)}" for name, value in _entry(self, record).items())


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The same fields as logfmt."""
        return json.dumps(_entry(self, record), ensure_ascii=False, default=str)


def _entry(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    entry: dict[str, object] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": _message(record),
        **dict(_fields(record)),
    }
    if trace := _trace(formatter, record):
        entry["trace"] = trace
    return entry


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, value) for name, value in record.__dict__.items() if name not in _STANDARD]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _value(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    plain = text.isprintable() and text and not any(mark in text for mark in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
