"""What an answer means, as a table."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.outcomes import (
    RETRY_AFTER_LIMIT_S,
    WORDS_LIMIT,
    Answer,
    FixNeeded,
    Halve,
    Isolate,
    Outcome,
    Stored,
    Wait,
    decide,
)

NOW_S = 1_790_000_000.0


def outcome(status: int, body: bytes = b"", **headers: str) -> Outcome:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decide(Answer(status, named, body), NOW_S)


def test_only_204_is_stored() -> None:
    assert [status for status in range(100, 600) if isinstance(outcome(status), Stored)] == [204]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_passes_by_itself_waits(status: int) -> None:
    assert isinstance(outcome(status), Wait)


@pytest.mark.parametrize(
    "status", [200, 201, 202, 206, 301, 302, 304, 307, 308, 401, 403, 404, 405, 410, 415]
)
def test_what_a_person_must_mend_says_so(status: int) -> None:
    assert isinstance(outcome(status), FixNeeded)


def test_the_remedy_is_named() -> None:
    assert "cloud.token_file" in _reason(outcome(401))
    assert "cloud.bucket" in _reason(outcome(403))
    assert "cloud.org" in _reason(outcome(404))
    assert "'https://login.example/'" in _reason(outcome(302, location="https://login.example/"))
    portal = _reason(outcome(200, b"<h1>Welcome to the hotel</h1>", server="Portal/1"))
    assert "Portal/1" in portal
    assert _reason(outcome(200, server="Portal\x1b[31m")).startswith("Portal [31m answered 200")
    assert "Welcome to the hotel" in portal
    assert "cloud.url" in portal


def test_bad_lines_and_too_much_carry_the_stores_words() -> None:
    body = b'{"code":"invalid","message":"unable to parse \'x\'"}'
    assert outcome(400, body) == Isolate(400, "unable to parse 'x'")
    assert outcome(422, body) == Isolate(422, "unable to parse 'x'")
    assert outcome(413, b"too large\n") == Halve(413, "too large")


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        ("0", None),
        ("7", 7.0),
        ("007", 7.0),
        ("900", 900.0),
        ("86400", RETRY_AFTER_LIMIT_S),
        ("9" * 5000, RETRY_AFTER_LIMIT_S),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
        ("٣", None),
        (formatdate(NOW_S + 30, usegmt=True), 30.0),
        (formatdate(NOW_S - 30, usegmt=True), None),
        (formatdate(NOW_S + 1e9, usegmt=True), RETRY_AFTER_LIMIT_S),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_honoured_within_reason(told: str, waits: float | None) -> None:
    for status in (429, 503):
        got = outcome(status, retry_after=told)
        assert isinstance(got, Wait)
        assert got.retry_after_s == waits


@given(st.integers(100, 599), st.binary(max_size=400), st.text(max_size=40))
def test_any_answer_has_a_meaning_on_one_short_line(status: int, body: bytes, told: str) -> None:
    reason = _reason(outcome(status, body, retry_after=told, x_influx_error=told, server=told))
    assert reason.isprintable() or told in reason
    assert len(reason) <= 2 * WORDS_LIMIT + 200


def _reason(got: Outcome) -> str:
    match got:
        case Stored():
            return ""
        case Wait(reason) | FixNeeded(reason):
            return reason
        case Halve(words=said) | Isolate(words=said):
            return said
