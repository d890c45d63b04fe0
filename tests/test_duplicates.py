"""What counts as said before (contract, section 2)."""

from hypothesis import given
from hypothesis import strategies as st

from devices.duplicates import WINDOW_MS, RecentMessages, SessionPackets, fingerprint

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
    assert len(recent._seen) == 10  # noqa: SLF001 - its size is the promise
    recent.is_repeat("late", A, WINDOW_MS * 3)
    assert len(recent._seen) == 1  # noqa: SLF001


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 120_000)), max_size=60))
def test_repeats_agree_with_a_naive_memory(steps: list[tuple[str, int]]) -> None:
    recent, naive, now = RecentMessages(), dict[str, int](), 0
    for message_id, gap in steps:
        now += gap
        expected = message_id in naive and now - naive[message_id] <= WINDOW_MS
        assert recent.is_repeat(message_id, A, now) == expected
        if not expected:
            naive[message_id] = now
