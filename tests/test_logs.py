"""edge.logs: structured, quiet, never the same line twice in a row."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from edge import logs
from edge.logs import FoldingHandler, Format, configure


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    names = ["anlin", "anlin.node", *logs.OURS]
    before = root.level, {name: logging.getLogger(name).level for name in names}
    yield
    for handler in [known for known in root.handlers if isinstance(known, FoldingHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    for name, level in before[1].items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)


def lines(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


def quiet(level: str = "warning", form: Format = "logfmt") -> io.StringIO:
    out = io.StringIO()
    configure(level, form, out)
    return out


def folding() -> FoldingHandler:
    return next(known for known in logging.getLogger().handlers if isinstance(known, FoldingHandler))


def spread(out: io.StringIO) -> list[str]:
    return [line.partition("msg=")[2] for line in lines(out)]


def test_by_default_only_what_is_wrong_and_the_begin_and_end_are_told() -> None:
    out = quiet()
    logs.LIFE.info("up")
    logging.getLogger("anlin.node").info("not this")
    logging.getLogger("edge.store.journal").info("nor this")
    logging.getLogger("uvicorn").info("nor this")
    logging.getLogger("anlin.node").warning("broker-away")
    logging.getLogger("some.library").warning("odd")
    assert spread(out) == ["up", "broker-away", "odd"]


def test_a_lower_level_opens_our_packages_and_no_library() -> None:
    out = quiet("debug")
    for name in (
        "anlin",
        "anlin.node",
        "edge.web.feed",
        "cloud_bridge.bridge",
        "simulators",
        "uvicorn",
        "paho",
    ):
        logging.getLogger(name).debug(name)
    assert spread(out) == ["anlin", "anlin.node", "edge.web.feed", "cloud_bridge.bridge", "simulators"]


def test_at_error_warnings_are_left_out() -> None:
    out = quiet("error")
    for name in ("anlin.node", "edge.store", "paho"):
        logging.getLogger(name).warning("no")
        logging.getLogger(name).error(name)
    assert spread(out) == ["anlin.node", "edge.store", "paho"]


def test_logfmt_quotes_what_needs_it_and_stays_on_one_line() -> None:
    out = quiet()
    logging.getLogger("anlin.mqtt").warning(
        "broker %s away", "b", extra={"host": "b", "why": 'a "b"\nc', "n": 3}
    )
    (line,) = lines(out)
    assert line.startswith("ts=2")
    assert line.endswith('level=warning logger=anlin.mqtt msg="broker b away" host=b why="a \\"b\\"\\nc" n=3')


def test_json_is_an_object_a_line_with_the_same_fields() -> None:
    out = quiet(form="json")
    logging.getLogger("anlin.mqtt").warning("断开", extra={"host": "b", "at": {1}})
    told = json.loads(out.getvalue())
    assert told.pop("ts").endswith("+00:00")
    assert told == {"level": "warning", "logger": "anlin.mqtt", "msg": "断开", "host": "b", "at": "{1}"}


def test_text_is_for_reading() -> None:
    out = quiet(form="text")
    logging.getLogger("anlin.mqtt").warning("broker away", extra={"host": "b"})
    assert lines(out)[0][9:] == "WARNING broker away  host=b"


def test_auto_is_text_at_a_terminal_and_logfmt_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    elsewhere, terminal = quiet(form="auto"), Terminal()
    logging.getLogger("anlin.x").warning("a")
    configure("warning", "auto", terminal)
    logging.getLogger("anlin.x").warning("b")
    assert lines(elsewhere)[0].startswith("ts=")
    assert lines(terminal)[0].endswith("WARNING b")


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_trace_is_one_field(form: Format) -> None:
    out = quiet(form=form)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logging.getLogger("anlin.x").exception("failed")
    (line,) = lines(out)
    assert "ZeroDivisionError: " in line


def test_a_line_said_again_is_counted_and_told_once() -> None:
    out = quiet()
    handler = folding()
    for at in (0.0, 1.0, 2.0, 9.9, 10.1):
        handler.handle(record("away", at, host="b"))
    handler.handle(record("other", 20.2))
    assert spread(out) == ["away host=b", "away host=b repeated=3", "away host=b", "other"]


def test_lines_that_differ_in_a_field_are_different_lines() -> None:
    out = quiet()
    handler = folding()
    for device in ("a", "b", "a"):
        handler.handle(record("odd", 0.0, device=device))
    assert spread(out) == ["odd device=a", "odd device=b"]


def test_what_is_still_counted_is_told_at_the_end_and_memory_is_bounded() -> None:
    out = quiet()
    handler = folding()
    handler.handle(record("first", 0.0))
    handler.handle(record("first", 0.0))
    for n in range(logs.REMEMBERED):
        handler.handle(record(f"n{n}", 0.0))
    assert spread(out).count("first repeated=1") == 1
    handler.handle(record("n255", 0.0))
    configure("warning", "logfmt", io.StringIO())
    assert spread(out)[-1] == "n255 repeated=1"


def test_a_message_whose_arguments_do_not_fit_is_still_told() -> None:
    out = quiet()
    folding().handle(record("%d of %d", 0.0, args=("three",)))
    assert spread(out) == ['"%d of %d"']


def record(message: str, at: float, **fields: object) -> logging.LogRecord:
    one = logging.makeLogRecord(
        {"name": "anlin.x", "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
    )
    one.created = at
    one.__dict__.update(fields)
    return one
