"""What counts as said before (contract, section 2)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.decoding import decode
from devices.duplicates import NAME_LIMIT, WINDOW_MS, RecentMessages, SessionPackets, fingerprint, name_of
from devices.topics import Route, Topics

A, B = fingerprint("t/a", b"1"), fingerprint("t/a", b"2")


def test_a_redelivered_packet_is_a_repeat_only_with_the_same_content() -> None:
    packets = SessionPackets()
    packets.committed([7, A])
    assert packets.is_repeat(7, A)
    assert not packets.is_repeat(7, B)
    assert not packets.is_repeat(8, A)


def test_a_packet_that_was_never_committed_is_no_repeat() -> None:
    assert not SessionPackets().is_repeat(1, 0)


def test_a_new_session_forgets_the_old_one_s_packets() -> None:
    packets = SessionPackets()
    packets.committed([7, A])
    packets.clear()
    assert not packets.is_repeat(7, A)


def test_the_same_id_and_content_within_five_minutes_is_a_repeat() -> None:
    recent = RecentMessages()
    assert not recent.is_repeat("m1", A, 1_000)
    assert recent.is_repeat("m1", A, 1_000 + WINDOW_MS)
    assert not recent.is_repeat("m1", A, 1_001 + WINDOW_MS)


def test_the_same_id_with_another_payload_or_topic_is_a_new_message() -> None:
    recent = RecentMessages()
    assert not recent.is_repeat("m1", A, 1_000)
    assert not recent.is_repeat("m1", B, 1_000)
    assert not recent.is_repeat("m1", fingerprint("t/b", b"1"), 1_000)


def test_the_memory_is_bounded_in_number_and_time() -> None:
    recent = RecentMessages(limit=10)
    for number in range(1_000):
        recent.is_repeat(f"m{number}", A, number)
    assert len(recent.held()) == 10
    recent.is_repeat("late", A, WINDOW_MS * 3)
    assert len(recent.held()) == 1


# --- what a message is known by -------------------------------------------------------------------------------

SAID = 1_790_000_000_123


def name(received_at: int = SAID + 40, *, channel: str = "event", **fields: object) -> str | None:
    """What a press that came then is known by."""
    route = Topics("community", "c1").route(f"community/c1/button/bt1/{channel}")
    assert isinstance(route, Route)
    payload = json.dumps({"action": "emergency"} | fields if channel == "event" else fields).encode()
    return name_of(decode(route, payload, received_at), payload)


def test_a_message_is_known_by_its_id_else_by_the_millisecond_in_which_it_was_said() -> None:
    assert name(id="m1", ts=SAID) == "m1"
    assert name(ts=SAID) == f"@{SAID}"
    assert name(ts=SAID) != name(ts=SAID + 1)


def test_without_id_and_time_the_same_press_is_a_press_each_time() -> None:
    assert name() is None
    assert name(ts=None) is None


@pytest.mark.parametrize(
    "received_at", [SAID - 7_200_000, SAID - 1, SAID, SAID + 60_000, SAID + 7_200_000, 40_000]
)
def test_the_time_tells_it_whenever_it_comes_and_whether_it_is_believed_or_not(received_at: int) -> None:
    assert name(received_at, ts=SAID) == f"@{SAID}"
    assert name(received_at, ts="2026-09-21T14:13:20.123Z") == f"@{SAID}"


def test_a_text_that_is_no_time_tells_nothing() -> None:
    assert name(ts="yesterday") is None
    assert name(ts="2026-09-21T14:13:20.123") is None


@pytest.mark.parametrize("ts", [0, 1_790_000_000_000, 1_790_000_000, "2026-11-22T08:00:00+08:00"])
def test_a_whole_second_is_a_coarse_clock_or_one_that_stands_still_and_tells_nothing(ts: int | str) -> None:
    assert name(ts=ts) is None


def test_a_status_is_what_is_so_now_however_often_it_is_said() -> None:
    assert name(channel="status", state="online", ts=SAID) is None


@pytest.mark.parametrize("said", [f"@{SAID}", f"@0{SAID}", "@", "", "m1", "@١"])
def test_what_is_remembered_is_told_as_it_was_named(said: str) -> None:
    recent = RecentMessages()
    recent.is_repeat(said, A, SAID)
    recent.shift(7)
    assert recent.held() == [(said, A, SAID + 7)]
    assert recent.is_repeat(said, A, SAID + WINDOW_MS + 7)
    assert not recent.is_repeat(said, B, SAID)


@pytest.mark.parametrize("said", ["@" + "1" * 200_000, "x" * 200_000, "@1" + "x" * 200_000])
def test_a_name_of_any_length_is_remembered_in_few_characters(said: str) -> None:
    recent = RecentMessages()
    assert not recent.is_repeat(said, A, SAID)
    ((held, mark, at),) = recent.held()
    assert (len(held) <= NAME_LIMIT, mark, at) == (True, A, SAID)
    after = RecentMessages()
    assert not after.is_repeat(held, mark, at)
    assert after.is_repeat(said, A, SAID)
    assert recent.is_repeat(said, A, SAID)
    assert not recent.is_repeat(said, B, SAID)


NAMED = st.sampled_from(["a", "b", f"@{SAID}", f"@{SAID + 1}"])


@given(st.lists(st.tuples(NAMED, st.integers(0, 120_000)), max_size=60))
def test_repeats_agree_with_a_naive_memory(steps: list[tuple[str, int]]) -> None:
    recent, naive, now = RecentMessages(), dict[str, int](), 0
    for message_id, gap in steps:
        now += gap
        expected = message_id in naive and now - naive[message_id] <= WINDOW_MS
        assert recent.is_repeat(message_id, A, now) == expected
        if not expected:
            naive[message_id] = now
