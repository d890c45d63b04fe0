"""The bridge against a store that answers everything a store can answer, and against VictoriaMetrics."""

import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import NamedTuple

import msgspec
import pytest

from cloud_bridge.bridge import Bridge
from cloud_bridge.lines import Lines
from cloud_bridge.outcomes import FixNeeded, Outcome
from cloud_bridge.source import Feed, State
from cloud_bridge.writer import CloudStore, StoreSettings
from devices.readings import Address, Channel, Reading, Scalar
from edge.store.records import Gap, GapReason
from rules.alarms import Transition
from rules.decisions import Input, Listening
from tests.cloud_world import (
    NOW,
    STORED,
    TOKEN,
    Forwarding,
    Journal,
    Reply,
    ScriptedStore,
    change,
    fill,
    line,
    reading,
    refusing,
)
from tests.servers import VictoriaMetrics, free_port
from tests.waiting import PATIENCE_S

WORDS = b'{"code":"x","message":"no thanks"}'


# --- the ordinary way -------------------------------------------------------------------------------------


def test_everything_arrives_once_in_order_and_the_positions_say_so() -> None:
    journal = Journal()
    expected = fill(journal, 12_345)
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    assert store.stored == expected
    assert [len(request) for request in store.requests] == [5000, 5000, 2345]
    assert journal.positions == {Feed.READINGS: 13}
    assert journal.reports[-1].state is State.CURRENT
    assert journal.reports[-1].stored == 12_345


def test_a_request_says_whose_it_is_and_that_times_are_milliseconds() -> None:
    journal = Journal()
    fill(journal, 1)
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    assert store.queries == [{"org": "anlin", "bucket": "community", "precision": "ms"}]
    (headers,) = store.headers
    assert headers["authorization"] == f"Token {TOKEN}"
    assert "content-encoding" not in headers, "gzip is off on loopback"


def test_gzip_is_on_for_a_remote_store_and_can_be_set() -> None:
    def compressed(url: str, setting: bool | None = None) -> bool:
        return StoreSettings(url, "o", "b", gzip=setting).compressed

    assert compressed("https://cloud.example:8086")
    assert not compressed("http://localhost:8428")
    assert not compressed("http://127.0.0.9:8428")
    assert not compressed("http://[::1]:8428")
    assert compressed("http://127.0.0.1:8428", setting=True)
    journal = Journal()
    expected = fill(journal, 10)
    with ScriptedStore() as store:
        Forwarding(journal, store.url, use_gzip=True).run()
    assert store.stored == expected
    assert store.headers[0]["content-encoding"] == "gzip"


def test_a_token_with_a_newline_from_its_file_is_no_trouble() -> None:
    journal = Journal()
    fill(journal, 1)
    with ScriptedStore() as store:
        Forwarding(journal, store.url, token=f"{TOKEN}\n").run()
    assert store.headers[0]["authorization"] == f"Token {TOKEN}"


def test_rows_that_give_no_line_are_passed_over() -> None:
    journal = Journal()
    journal.commit(Listening(on=True, at=NOW))
    journal.commit(reading(1))
    journal.commit(Listening(on=False, at=NOW))
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    assert store.requests == [[line(1)]]
    assert journal.positions == {Feed.READINGS: 3}


def test_alarms_and_gaps_go_ahead_of_readings_also_of_a_backlog() -> None:
    journal = Journal()
    fill(journal, 300, per_batch=100)
    journal.change(change(1))
    journal.lose(Gap(at=NOW, lane="bulk", count=1, from_ms=NOW, to_ms=NOW, reason=GapReason.JOURNAL_FULL))

    def a_press_during_the_first_readings(lines: list[bytes]) -> Reply:
        if lines[0] == line(0):
            journal.change(change(2, Transition.RERAISED))
        return STORED

    with ScriptedStore(usual=a_press_during_the_first_readings) as store:
        Forwarding(journal, store.url, batch_lines=100).run()
    first = [request[0].split(b",")[0] for request in store.requests]
    assert first == [b"alarm", b"gap", b"charger", b"alarm", b"charger", b"charger"]


def test_a_journal_batch_above_the_limit_is_split() -> None:
    journal = Journal()
    expected = fill(journal, 250, per_batch=250)
    with ScriptedStore() as store:
        Forwarding(journal, store.url, batch_lines=100).run()
    assert [len(request) for request in store.requests] == [100, 100, 50]
    assert store.stored == expected
    assert journal.advances == [(Feed.READINGS, 1)]


def test_a_backlog_of_small_batches_is_sent_without_pauses_and_live_ones_are_gathered() -> None:
    journal = Journal()
    journal.now = NOW - 3_600_000
    fill(journal, 600, per_batch=2)
    with ScriptedStore() as store:
        run = Forwarding(journal, store.url)
        journal.most_batches = 10
        run.run()
        assert not run.pauses
        assert len(store.requests) == 30
        journal.now = NOW
        fill(journal, 60, per_batch=2)
        run = Forwarding(journal, store.url).run()
        assert run.pauses == [1.0, 1.0]


# --- answers that ask for patience ------------------------------------------------------------------------

PASSING = [
    Reply(500, body=WORDS),
    Reply(503),
    Reply(429),
    Reply(502, body="网关错误".encode("gbk")),
    Reply(500, body=b"ha", cut=True),
    Reply(cut=True),
    Reply(cut=True, stores=True),
]


@pytest.mark.parametrize("reply", PASSING, ids=lambda reply: f"{reply.status} {reply.cut} {reply.stores}")
def test_nothing_is_lost_while_the_store_cannot(reply: Reply) -> None:
    journal = Journal()
    expected = fill(journal, 20, per_batch=5)
    with ScriptedStore(reply, reply, reply) as store:
        run = Forwarding(journal, store.url).run()
    assert store.requests == [expected] * 4, "the same bytes each time"
    assert store.stored[-20:] == expected
    assert journal.emptied
    assert journal.advances == [(Feed.READINGS, 4)]
    assert not journal.dead
    waiting = [report for report in journal.reports if report.state is State.WAITING]
    assert waiting[0].error
    assert waiting[0].behind[Feed.READINGS] == 20
    assert journal.reports[-1].error is None
    assert [1 <= pause <= most for pause, most in zip(run.pauses, (2, 4, 8), strict=True)] == [True] * 3


def test_patience_grows_to_a_minute_and_starts_anew_after_a_success() -> None:
    journal = Journal()
    fill(journal, 2, per_batch=1)
    troubles = [Reply(503)] * 12
    with ScriptedStore(*troubles, STORED, Reply(503)) as store:
        run = Forwarding(journal, store.url, batch_lines=1).run()
    assert max(run.pauses) <= 60
    assert all(30 <= pause <= 60 for pause in run.pauses[6:12])
    assert run.pauses[12] <= 2
    assert journal.emptied


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [("90", 90, 99), (formatdate(NOW / 1000 + 120), 120, 132), ("99999999999", 900, 990), ("-3", 1, 2)],
)
def test_retry_after_is_waited_for(told: str, least: float, most: float) -> None:
    journal = Journal()
    fill(journal, 1)
    with ScriptedStore(Reply(429, {"Retry-After": told}, WORDS)) as store:
        (pause,) = Forwarding(journal, store.url).run().pauses
    assert least <= pause <= most
    assert journal.emptied


def test_a_store_that_is_not_there_yet_is_waited_for() -> None:
    journal = Journal()
    expected = fill(journal, 3)
    run = Forwarding(journal, f"http://127.0.0.1:{free_port()}")
    run.pause_limit = 3
    run.run()
    assert not journal.advances
    assert "refused" in (journal.reports[-1].error or "")
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    assert store.stored == expected


def test_a_store_that_hangs_is_given_up_and_tried_again() -> None:
    journal = Journal()
    expected = fill(journal, 3)
    with ScriptedStore(Reply(hang=True)) as store:
        run = Forwarding(journal, store.url, timeout_s=0.1).run()
    assert len(run.pauses) == 1
    assert store.stored == expected


@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_an_answer_without_an_end_is_read_for_a_few_words_only(status: int) -> None:
    sent = 0

    def talk(server: socket.socket) -> None:
        nonlocal sent
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 %d Well\r\n\r\n" % status)
            while sent < 2**28:
                connection.sendall(b"x" * 2**16)
                sent += 2**16

    with socket.create_server(("127.0.0.1", 0)) as server:
        talking = threading.Thread(target=talk, args=(server,))
        talking.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        outcome = CloudStore(StoreSettings(url, "anlin", "community", TOKEN)).write(b"m v=1 1")
        talking.join(PATIENCE_S)
    assert f"{status}" in str(outcome)
    assert sent < 2**26  # what lies in the buffers of the two ends


@pytest.mark.parametrize("token", ["se\rcret", "se\0cret", "se\x1bcret", "sécret", "秘密"])
def test_a_token_that_no_header_can_carry_is_told_without_it(token: str) -> None:
    outcome = CloudStore(StoreSettings("http://127.0.0.1:1", "anlin", "community", token)).write(b"m v=1 1")
    assert isinstance(outcome, FixNeeded)
    assert "cloud.token_file" in outcome.reason
    assert not any(part in outcome.reason for part in ("cret", "秘"))


def test_a_store_without_tls_is_waited_for_and_the_reason_told() -> None:
    journal = Journal()
    fill(journal, 1)
    with ScriptedStore() as store:
        run = Forwarding(journal, store.url.replace("http:", "https:"))
        run.pause_limit = 1
        run.run()
    assert journal.reports[-1].state is State.WAITING
    assert "TLS" in (journal.reports[-1].error or "")
    assert not journal.advances


def test_alarms_keep_their_order_through_troubles() -> None:
    journal = Journal()
    journal.change(*(change(number) for number in range(1, 8)))
    with ScriptedStore(Reply(503), Reply(413), STORED, Reply(500), Reply(cut=True)) as store:
        Forwarding(journal, store.url).run()
    numbers = [int(stored.split(b"occurrences=")[1].split()[0]) for stored in store.stored]
    assert numbers == list(range(1, 8))
    assert journal.positions == {Feed.ALARMS: 7}


# --- answers that ask for a person ------------------------------------------------------------------------

MENDABLE = [
    Reply(200, {"Server": "portal"}, b"<h1>welcome</h1>"),
    Reply(202),
    Reply(301, {"Location": "/elsewhere"}),
    Reply(302, {"Location": "https://127.0.0.1:1/login"}),
    Reply(307, {"Location": "/elsewhere"}),
    Reply(401, body=WORDS),
    Reply(403, body=WORDS),
    Reply(404, body=WORDS),
    Reply(405),
]


@pytest.mark.parametrize("reply", MENDABLE, ids=lambda reply: str(reply.status))
def test_everything_is_kept_until_a_person_has_mended_it(reply: Reply) -> None:
    journal = Journal()
    expected = fill(journal, 20, per_batch=5)
    with ScriptedStore(usual=lambda _: reply) as store:
        run = Forwarding(journal, store.url)
        run.pause_limit = 3
        run.run()
        assert len(store.requests) == 3, "a redirect is not followed"
        assert not journal.advances
        assert not journal.dead
        assert journal.reports[-1].state is State.FIX_NEEDED
        assert str(reply.status) in (journal.reports[-1].error or "")
        store.usual = lambda _: STORED
        Forwarding(journal, store.url).run()
    assert store.stored == expected
    assert journal.emptied


@pytest.mark.parametrize(
    ("url", "token"),
    [("nonsense", "t"), ("http://[::1", "t"), ("http://127.0.0.1:1", "t\nX: y"), ("ftp://x", "t")],
)
def test_settings_that_cannot_work_are_a_persons_matter_too(url: str, token: str) -> None:
    journal = Journal()
    fill(journal, 1)
    run = Forwarding(journal, url, token=token)
    run.pause_limit = 1
    run.run()
    assert journal.reports[-1].state is State.FIX_NEEDED
    assert "cloud.url" in (journal.reports[-1].error or "")


# --- answers about lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("at", [0, 1, 2_345, 4_999])
def test_a_bad_line_among_5000_is_found_in_few_requests_and_kept(status: int, at: int) -> None:
    journal = Journal()
    expected = fill(journal, 5_000)
    with ScriptedStore(usual=refusing(line(at), status=status)) as store:
        run = Forwarding(journal, store.url).run()
    assert [(letter.line, letter.status) for letter in journal.dead] == [(line(at), status)]
    assert journal.dead[0].words == "unable to parse: bad line"
    kept = [stored for stored in store.stored if b"cloud_trial" not in stored]
    assert kept == expected[:at] + expected[at + 1 :]
    assert len(store.requests) <= 2 * 13 + 2
    assert not run.pauses
    assert journal.emptied
    assert journal.reports[-1].dead_letters == 1


def test_several_bad_lines_are_found_each() -> None:
    journal = Journal()
    expected = fill(journal, 2_000)
    bad = [line(number) for number in (0, 1, 7, 1_000, 1_001, 1_999)]
    with ScriptedStore(usual=refusing(*bad)) as store:
        Forwarding(journal, store.url).run()
    assert [letter.line for letter in journal.dead] == bad
    assert [stored for stored in store.stored if b"trial" not in stored] == [
        each for each in expected if each not in bad
    ]


def test_a_bad_alarm_is_kept_and_the_others_go_on() -> None:
    journal = Journal()
    journal.change(*(change(number) for number in range(1, 4)))
    written = Lines("c1", "gw-1", lambda _: {}).alarm(change(2))
    with ScriptedStore(usual=refusing(written)) as store:
        Forwarding(journal, store.url).run()
    assert [letter.feed for letter in journal.dead] == [Feed.ALARMS]
    assert len([stored for stored in store.stored if stored.startswith(b"alarm")]) == 2


def test_a_write_that_fails_in_an_unforeseen_way_is_counted_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = CloudStore.write
    failing = [ZeroDivisionError("a fault of ours")]

    def once(store: CloudStore, body: bytes) -> Outcome:
        if failing:
            raise failing.pop()
        return write(store, body)

    monkeypatch.setattr(CloudStore, "write", once)
    journal = Journal()
    expected = fill(journal, 10)
    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
    assert store.stored == expected
    assert journal.reports[-1].failures == 1


def test_a_store_that_refuses_every_line_gets_no_dead_letters_but_a_person() -> None:
    """A wrong organisation is answered with 400 too; the backlog must survive it."""
    journal = Journal()
    expected = fill(journal, 5_000)
    wrong = Reply(400, body=b'{"code":"invalid","message":"organization id is bad"}')
    with ScriptedStore(usual=lambda _: wrong) as store:
        run = Forwarding(journal, store.url)
        run.pause_limit = 4
        run.run()
        assert not journal.dead
        assert not journal.advances
        assert journal.reports[-1].state is State.FIX_NEEDED
        assert "organization id is bad" in (journal.reports[-1].error or "")
        assert len(store.requests) < 30
        store.usual = lambda _: STORED
        Forwarding(journal, store.url).run()
    assert store.stored == expected


def test_a_line_is_kept_once_though_the_store_goes_away_while_it_is_isolated() -> None:
    journal = Journal()
    expected = fill(journal, 64)
    calls = 0

    def usual(lines: list[bytes]) -> Reply:
        nonlocal calls
        calls += 1
        return Reply(503) if calls % 2 else refusing(line(5), line(40))(lines)

    with ScriptedStore(usual=usual) as store:
        Forwarding(journal, store.url).run()
    assert [letter.line for letter in journal.dead] == [line(5), line(40)]
    assert [stored for stored in store.stored if b"trial" not in stored] == [
        each for each in expected if each not in (line(5), line(40))
    ]


def test_too_much_at_once_is_halved_and_remembered() -> None:
    journal = Journal()
    expected = fill(journal, 20_000)
    with ScriptedStore(usual=lambda lines: STORED if len(lines) <= 1_300 else Reply(413)) as store:
        Forwarding(journal, store.url).run()
    assert store.stored == expected
    refused = [len(request) for request in store.requests if len(request) > 1_300]
    assert refused == [5_000, 2_500, 2_500]


def test_a_single_line_that_is_too_much_is_kept() -> None:
    journal = Journal()
    journal.commit(reading(1), reading(2, power=2.5, session="x" * 200), reading(3))
    with ScriptedStore(usual=lambda lines: Reply(413) if len(b"\n".join(lines)) > 150 else STORED) as store:
        Forwarding(journal, store.url).run()
    assert [letter.status for letter in journal.dead] == [413]
    assert journal.emptied


def test_a_trickle_of_alarms_that_does_not_end_keeps_no_reading_waiting() -> None:
    journal = Journal()
    expected = fill(journal, 10)
    journal.change(change(1))
    numbers = iter(range(2, 50))

    def another(_: list[bytes]) -> Reply:
        if (number := next(numbers, None)) is not None:
            journal.change(change(number))
        return STORED

    with ScriptedStore(usual=another) as store:
        Forwarding(journal, store.url).run()
    assert store.requests[1] == expected


# --- the gateway's side -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fails_at", range(12))
def test_a_journal_or_ledger_that_is_away_for_a_moment_loses_nothing(fails_at: int) -> None:
    journal = Journal()
    expected = fill(journal, 30, per_batch=10)
    journal.change(change(1))
    reach, calls = journal.reach, 0

    def failing() -> None:
        nonlocal calls
        calls += 1
        journal.away = int(calls == fails_at + 1)
        reach()

    journal.reach = failing  # type: ignore[method-assign]  # a fake of ours
    with ScriptedStore(usual=refusing(line(7))) as store:
        Forwarding(journal, store.url, batch_lines=10).run()
    assert journal.emptied
    readings = [stored for stored in store.stored if stored.startswith(b"charger")]
    assert readings == [each for each in expected if each != line(7)]
    assert [letter.line for letter in journal.dead] == [line(7)]


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5, 8])
def test_a_restart_goes_on_where_it_stopped_and_sends_equal_lines_again(killed_after: int) -> None:
    journal = Journal()
    same_moment = [change(number, Transition.RERAISED, at=NOW) for number in range(1, 6)]
    journal.change(*same_moment)
    for number in range(6):
        press = {"action": "emergency"}
        journal.commit(Reading(Channel.EVENT, Address("c1/button/b1"), dict(press), NOW, NOW))
        journal.commit(*map(reading, range(number * 10, number * 10 + 10)))
    with ScriptedStore() as store:
        Forwarding(journal, store.url, batch_lines=2).run()
        through = list(store.stored)
        journal.positions.clear()
        store.stored.clear()
        run = Forwarding(journal, store.url, batch_lines=2)
        store.usual = lambda _: Reply(cut=True, stores=True) if len(store.stored) >= killed_after else STORED
        run.pause_limit = 1
        run.run()  # the last request was stored, but nobody knows
        store.usual = lambda _: STORED
        Forwarding(journal, store.url, batch_lines=2).run()
    assert len(store.stored) > len(through)
    assert list(dict.fromkeys(store.stored)) == through
    assert len(set(through)) == len(through)


class SlowToTell(NamedTuple):
    """A batch that is decoded when its inputs are asked for, which may fail."""

    journal: Journal
    seq: int
    now: int

    @property
    def inputs(self) -> Sequence[Input]:
        self.journal.reach()
        return [
            Reading(Channel.EVENT, Address("c1/button/b1"), {"action": "emergency"}, NOW, NOW)
            for _ in range(2)
        ]


@pytest.mark.parametrize("fails_at", range(24))
def test_a_journal_that_is_away_for_a_moment_moves_no_occurrence_to_another_time(fails_at: int) -> None:
    journal, calls, reach = Journal(), 0, Journal.reach
    journal.change(*(change(number, Transition.RERAISED, at=NOW) for number in range(1, 4)))
    journal.batches = [SlowToTell(journal, seq, NOW) for seq in range(1, 6)]  # type: ignore[misc]  # it is like one

    def failing() -> None:
        nonlocal calls
        calls += 1
        journal.away = int(calls == fails_at + 1)
        reach(journal)

    with ScriptedStore() as store:
        Forwarding(journal, store.url).run()
        through = set(store.stored)
        journal.positions = {Feed.ALARMS: 2, Feed.READINGS: 3}
        journal.reach = failing  # type: ignore[method-assign]  # a fake of ours
        Forwarding(journal, store.url).run()
    assert len(through) == 13
    assert set(store.stored) == through
    assert journal.emptied


def test_how_it_fares_is_told_at_most_once_a_second() -> None:
    journal = Journal()
    fill(journal, 5_000, per_batch=10)
    with ScriptedStore() as store:
        Forwarding(journal, store.url, batch_lines=10).run()
    assert len(store.requests) == 500
    assert [report.state for report in journal.reports] == [State.DRAINING, State.CURRENT]


# --- stopping ---------------------------------------------------------------------------------------------


PROMPT_S = 3.0
"""Sooner than an answer that never comes is given up, or one that failed is asked for again."""


@pytest.mark.parametrize(
    "reply", [Reply(hang=True), Reply(503, {"Retry-After": "600"})], ids=["hangs", "waits"]
)
def test_stop_is_prompt(reply: Reply) -> None:
    journal = Journal()
    fill(journal, 10)
    with ScriptedStore(usual=lambda _: reply) as store:
        cloud = CloudStore(StoreSettings(store.url, "anlin", "community"))
        bridge = Bridge(journal, journal, cloud, Lines("c1", "gw-1", lambda _: {}))
        thread = threading.Thread(target=bridge.run)
        thread.start()
        assert store.came.wait(PATIENCE_S)
        if not reply.hang:
            journal.await_state(State.WAITING)
        began = time.monotonic()
        bridge.stop()
        bridge.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert time.monotonic() - began < PROMPT_S
        store.over.set()
    cloud.close()
    assert not journal.advances


def test_a_signal_handler_may_stop_it_in_the_main_thread() -> None:
    journal = Journal()
    fill(journal, 10)
    with ScriptedStore(usual=lambda _: Reply(hang=True)) as store:
        cloud = CloudStore(StoreSettings(store.url, "anlin", "community"))
        bridge = Bridge(journal, journal, cloud, Lines("c1", "gw-1", lambda _: {}))
        before = signal.signal(signal.SIGUSR1, lambda *_: bridge.stop())
        here = threading.get_ident()

        def tell() -> None:
            store.came.wait(PATIENCE_S)
            signal.pthread_kill(here, signal.SIGUSR1)

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            bridge.run()
        finally:
            signal.signal(signal.SIGUSR1, before)
            teller.join()
            store.over.set()
    cloud.close()
    assert store.requests


# --- a real store -----------------------------------------------------------------------------------------


def test_victoria_metrics_stores_values_and_times_through_an_outage() -> None:
    journal = Journal()
    now = round(time.time() * 1000) - 60_000
    for number in range(50):
        values: dict[str, Scalar] = {"temperature": 20 + number / 8, "status": "Charging"}
        journal.commit(Reading(Channel.TELEMETRY, Address("c1/charger/p1"), values, now + number * 250, now))
    raised = change(1, at=now)
    journal.change(raised)
    with VictoriaMetrics() as store:
        run = Forwarding(journal, store.url, batch_lines=10, timeout_s=10)
        store.stop()
        run.at_pause = store.start
        run.run()
        assert len(run.pauses) == 1
        _ask(f"{store.url}/internal/force_flush")
        temperature = _export(store, "charger_temperature")
        assert temperature.metric.items() >= {"site": "c1", "device": "p1", "building": "3"}.items()
        assert temperature.values == [20 + number / 8 for number in range(50)]
        assert temperature.timestamps == [now + number * 250 for number in range(50)]
        assert set(_export(store, "charger_status_code").values) == {2}
        alarm = _export(store, "alarm_state_code")
        assert alarm.metric["transition"] == "raised"
        assert (alarm.values, alarm.timestamps) == ([0], [now])


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[float]
    timestamps: list[int]


def _export(store: VictoriaMetrics, metric: str) -> _Series:
    (series,) = _ask(f"{store.url}/api/v1/export?match[]={metric}").splitlines()
    return msgspec.json.decode(series, type=_Series)


def _ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        told: str = answer.read().decode()
        return told
