"""The fault suite: its plan, its ledger and its disk, and the whole system under a short storm of faults."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from tests.chaos.__main__ import BEGIN, END, Run, written
from tests.chaos.cloud import ANSWERS
from tests.chaos.disk import Disk, Mode
from tests.chaos.faults import Injector
from tests.chaos.ledger import Cause, GapRow, History, Raise, Said, Span, Telling, judge
from tests.chaos.plan import Fault, Step, faults_of, make_plan, target_of
from tests.chaos.proxy import HOST, Proxy, Weather
from tests.chaos.traffic import Traffic
from tests.chaos.world import World
from tests.servers import Mosquitto
from tests.waiting import eventually

pytestmark = pytest.mark.timed

STORM_MINUTES = 0.4
STORM_FAULTS = (
    Fault.GATEWAY_KILLED,
    Fault.POWER_CUT,
    Fault.SYNC_HANGS,
    Fault.BROKER_RESTARTED,
    Fault.GATEWAY_HALF_OPEN,
    Fault.GATEWAY_STALLS,
    Fault.DEVICE_HALF_OPEN,
    Fault.BRIDGE_KILLED,
    Fault.CLOUD_ERRORS,
    Fault.CLOUD_PARTITION,
    Fault.FLOOD,
    Fault.DUPLICATES,
    Fault.CORRUPT,
)
"""None after which less is promised: a killed broker forgets, a stepped clock blurs the times of gaps."""

SEED = 20_261_122

# --- the plan -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    faults = faults_of([])
    assert make_plan(7, 600, faults) == make_plan(7, 600, faults)
    assert make_plan(7, 600, faults) != make_plan(8, 600, faults)


def test_every_fault_comes_in_a_long_run_and_none_outlasts_it() -> None:
    plan = make_plan(1, 3_600, tuple(Fault))
    assert {step.fault for step in plan} == set(Fault)
    assert max(step.until_s for step in plan) <= 3_600
    assert max(step.for_s for step in plan) <= 30
    assert max(step.for_s for step in plan) > 25


def test_faults_of_one_target_never_overlap() -> None:
    busy: dict[str, float] = {}
    for step in make_plan(3, 3_600, tuple(Fault)):
        target = target_of(step.fault)
        assert step.at_s >= busy.get(target, 0)
        busy[target] = step.until_s


def test_a_fault_that_began_late_ends_before_the_next_of_its_target_begins() -> None:
    with Mosquitto() as broker:
        injector = Injector(cast("World", SimpleNamespace(broker=broker)), SEED, storm=0)
        injector.begin(Step(0.0, Fault.BROKER_RESTARTED, 7.0, 0.0), now_s=5.0)  # to be ended at 12 s
        injector.begin(Step(9.0, Fault.BROKER_STOPPED, 3.0, 0.0), now_s=9.0)
        eventually(lambda: psutil.Process(broker.pid).status() == psutil.STATUS_STOPPED)
        assert [step.fault for step in injector.end_due(12.0)] == [Fault.BROKER_STOPPED]
        assert not injector.active


def test_the_cloud_gives_each_of_its_answers_before_any_comes_twice() -> None:
    given: list[str] = []
    cloud = SimpleNamespace(answer=given.append)
    injector = Injector(cast("World", SimpleNamespace(cloud=cloud)), SEED, storm=0)
    for number in range(len(ANSWERS)):
        injector.begin(Step(number, Fault.CLOUD_ERRORS, 0.5, 0.0), now_s=number)
        injector.end_due(number + 0.5)
    assert sorted(given) == sorted([*ANSWERS, *["usual"] * len(ANSWERS)])
    plan = make_plan(1, 3_600, tuple(Fault))
    assert sum(step.fault is Fault.CLOUD_ERRORS for step in plan) >= len(ANSWERS)


def test_what_is_said_for_repeating_a_run_repeats_it(tmp_path: Path) -> None:
    whole = Run(7, 60, faults_of([]), tmp_path)
    assert whole.command == "make chaos MINUTES=60 SEED=7"
    some = Run(7, 0.5, (Fault.POWER_CUT, Fault.FLOOD), tmp_path)
    assert some.command == "make chaos MINUTES=0.5 SEED=7 ONLY=power-cut,flood"
    names = some.command.rpartition("ONLY=")[2].split(",")
    assert Run(7, 0.5, faults_of(names), tmp_path).plan == some.plan


def test_a_fault_that_does_not_exist_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--only", "earthquake"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "earthquake" in done.stderr


def test_results_are_written_between_their_comments_and_nothing_else_changes() -> None:
    page = f"before\n\n{BEGIN}\nold\n{END}\nafter\n"
    assert written(page, "new") == f"before\n\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert written(written(page, "x"), "new") == written(page, "new")
    with pytest.raises(ValueError, match="lacks"):
        written("before\n", "new")


# --- the ledger: histories that it must condemn ---------------------------------------------------------------

KEY = "smoke-alarm:c1/smoke/d0"
PRESS = "button-emergency:c1/button/d1"
GOOD = History(
    said=[Said(0, "safety", 1_000, True), Said(1, "safety", 2_000, False), Said(2, "bulk", 3_000, True)],
    stored={0: 1, 1: 1, 2: 1},
    causes=[Cause("d0", (KEY,), (0,), (), True), Cause("d1", (PRESS,), (1,), (), True)],
    raises=[Raise(KEY, "A", False), Raise(PRESS, "B", False)],
    told=[Telling("A", KEY, 1), Telling("B", PRESS, 1), Telling("B", PRESS, 2)],
    orders={("d1", "confirm"): {"O"}},
    standing={"A": (KEY, 1), "B": (PRESS, 2)},
    retained={"A": (KEY, 1), "B": (PRESS, 2)},
    cloud_checked=3,
)


def condemned(history: History) -> Mapping[str, int]:
    """Promises that were broken, with how often."""
    return {row.promise: len(row.bad) for row in judge(history).rows if row.bad}


def test_a_good_history_is_acquitted() -> None:
    assert judge(GOOD).kept


def test_an_acknowledged_message_that_the_journal_lacks_is_lost() -> None:
    assert condemned(replace(GOOD, stored={0: 1, 1: 1})) == {"acknowledged messages lost": 1}


@pytest.mark.parametrize(
    ("gap", "forgiven"),
    [
        (GapRow("bulk", 1, 2_500, 3_500, "store_failed"), True),
        (GapRow("readings", 0, 2_500, 3_500, "store_damaged"), True),
        (GapRow("safety", 1, 2_500, 3_500, "store_failed"), False),
        (GapRow("bulk", 1, 20_000, 30_000, "store_failed"), False),
        (GapRow("bulk", 0, 2_500, 3_500, "session_lost"), False),
    ],
    ids=["the gateway owns up", "number unknown", "another lane", "another time", "no broker was killed"],
)
def test_a_loss_is_forgiven_only_by_a_gap_row_that_can_mean_it(gap: GapRow, forgiven: bool) -> None:
    assert judge(replace(GOOD, stored={0: 1, 1: 1}, gaps=[gap])).kept is forgiven


def test_a_gap_row_covers_no_more_than_it_counts() -> None:
    said = [Said(number, "bulk", 3_000, True) for number in range(10, 15)]
    history = replace(GOOD, said=[*GOOD.said, *said], gaps=[GapRow("bulk", 3, 2_000, 4_000, "store_failed")])
    assert condemned(history) == {"acknowledged messages lost": 2}


def test_only_a_babbling_device_can_be_throttled() -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, gaps=[GapRow("bulk", 1, 2_500, 3_500, "throttled")])
    assert condemned(history) == {"acknowledged messages lost": 1}
    babbling = [*GOOD.said[:2], GOOD.said[2]._replace(babbling=True)]
    assert judge(replace(history, said=babbling)).kept


@pytest.mark.parametrize(("crash_ms", "forgiven"), [(30_000, True), (90_000, False), (2_000, False)])
def test_a_crash_takes_the_count_of_a_babbling_device_of_the_last_minute(
    crash_ms: int, forgiven: bool
) -> None:
    said = [*GOOD.said[:2], GOOD.said[2]._replace(babbling=True)]
    history = replace(GOOD, said=said, stored={0: 1, 1: 1}, crashes=[crash_ms])
    assert judge(history).kept is forgiven
    assert not judge(replace(history, said=GOOD.said)).kept


def test_a_crash_on_a_disk_that_cannot_be_written_takes_what_was_not_stored() -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, unwritable=[Span(2_000, 5_000)])
    assert condemned(history) == {"acknowledged messages lost": 1}
    assert judge(replace(history, crashes=[4_000])).kept
    assert not judge(replace(history, crashes=[6_000])).kept


def test_a_gap_row_covers_what_came_to_the_gateway_in_its_time_however_late_that_was() -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, gaps=[GapRow("bulk", 1, 8_000, 9_000, "store_failed")])
    assert not judge(history).kept
    late = [*GOOD.said[:2], GOOD.said[2]._replace(arrived_by_ms=8_500)]
    assert judge(replace(history, said=late)).kept


@pytest.mark.parametrize("reason", ["cloud_refused", "journal_full", "broker_dropped"])
def test_a_loss_of_somebody_else_forgives_no_message_that_the_gateway_acknowledged(reason: str) -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, gaps=[GapRow("readings", 9, 2_500, 3_500, reason)])
    assert condemned(history) == {"acknowledged messages lost": 1}


def test_what_the_gateway_told_twice_under_one_version_is_one_alarm() -> None:
    assert judge(replace(GOOD, told=[Telling("A", KEY, 1), *GOOD.told])).kept


def test_a_trouble_that_is_left_at_the_end_is_condemned() -> None:
    history = replace(GOOD, left_over=["/healthz answers 503"])
    assert condemned(history) == {"all is well again at the end": 1}


def test_what_a_killed_broker_took_must_be_reported() -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, forgotten=[Span(2_500, 3_500)])
    assert condemned(history) == {"losses not reported": 1}
    assert judge(replace(history, gaps=[GapRow("bulk", 0, 2_000, 9_000, "session_lost")])).kept


def test_what_the_broker_had_saved_before_it_was_killed_is_lost_if_it_is_missing() -> None:
    history = replace(GOOD, stored={0: 1, 1: 1}, forgotten=[Span(3_100, 3_500)])
    assert condemned(history) == {"acknowledged messages lost": 1}


def test_a_message_with_an_id_that_is_stored_twice_is_condemned_and_one_without_is_not() -> None:
    assert condemned(replace(GOOD, stored={0: 1, 1: 1, 2: 2})) == {"messages stored twice": 1}
    assert judge(replace(GOOD, stored={0: 1, 1: 2, 2: 1})).kept


def test_a_message_that_a_killed_broker_gives_again_after_five_minutes_may_be_stored_twice() -> None:
    twice = replace(GOOD, stored={0: 1, 1: 1, 2: 2})
    assert judge(replace(twice, came_late={2: 1})).kept
    assert condemned(replace(twice, stored={0: 1, 1: 1, 2: 3}, came_late={2: 1})) == {
        "messages stored twice": 1
    }


def test_an_alarm_whose_message_came_again_after_five_minutes_may_be_raised_again() -> None:
    again = replace(GOOD, raises=[*GOOD.raises, Raise(KEY, "A", True)], stored={0: 2, 1: 1, 2: 1})
    assert not judge(again).kept
    assert judge(replace(again, came_late={0: 1}, forgotten=[Span(10_000, 11_000)])).kept


def test_of_a_device_that_babbles_what_is_held_back_for_a_second_is_not_known_again() -> None:
    said = [*GOOD.said[:2], GOOD.said[2]._replace(babbling=True)]
    assert judge(replace(GOOD, said=said, stored={0: 1, 1: 1, 2: 2})).kept


def test_a_stay_that_only_a_killed_broker_knew_may_come_again() -> None:
    told = [Telling("A0", KEY, 1, at_ms=2_300), *GOOD.told]
    died = replace(GOOD, told=told, unwritable=[Span(1_700, 4_000)], crashes=[3_000])
    forgot = replace(died, forgotten=[Span(2_200, 4_500)])
    assert judge(forgot).kept
    assert judge(replace(forgot, orders={("d0", "cut_power"): {"O1", "O2"}})).kept
    assert not judge(died).kept
    assert not judge(replace(died, forgotten=[Span(2_400, 4_500)])).kept  # the broker had saved it
    assert not judge(replace(died, forgotten=[Span(2_200, 2_900)])).kept  # told anew before the crash


def test_an_alarm_that_was_never_raised_is_lost() -> None:
    history = replace(GOOD, raises=GOOD.raises[1:], told=GOOD.told[1:], standing={"B": (PRESS, 2)})
    history = replace(history, retained=history.standing)
    assert condemned(history) == {"alarms lost": 1}


def test_an_alarm_whose_message_is_lost_is_counted_once_as_the_lost_message() -> None:
    history = replace(
        GOOD, raises=GOOD.raises[1:], told=GOOD.told[1:], standing={"B": (PRESS, 2)}, stored={1: 1, 2: 1}
    )
    history = replace(history, retained=history.standing)
    assert condemned(history) == {"acknowledged messages lost": 1}


def test_an_alarm_that_fell_off_the_board_is_lost_unless_people_took_it_off() -> None:
    history = replace(GOOD, standing={"B": (PRESS, 2)}, retained={"B": (PRESS, 2)})
    assert condemned(history) == {"alarms lost": 1}
    assert judge(replace(history, ended_by_people={"A"})).kept


def test_an_alarm_of_which_no_subscriber_heard_is_condemned() -> None:
    assert condemned(replace(GOOD, told=GOOD.told[1:])) == {"alarms that nobody heard": 1}


@pytest.mark.parametrize(
    "again",
    [Raise(KEY, "A2", False), Raise(KEY, "A", False), Raise(KEY, "A", True)],
    ids=["new", "same", "re"],
)
def test_an_alarm_raised_twice_by_one_cause_is_condemned(again: Raise) -> None:
    assert condemned(replace(GOOD, raises=[*GOOD.raises, again])) == {"alarms raised twice": 1}


def test_an_alarm_that_was_told_under_an_id_which_the_journal_forgot_is_raised_twice() -> None:
    assert condemned(replace(GOOD, told=[Telling("A0", KEY, 1), *GOOD.told])) == {"alarms raised twice": 1}


def test_a_stay_that_came_and_went_with_a_gateway_that_could_not_store_it_may_come_again() -> None:
    told = [Telling("A0", KEY, 1, at_ms=1_200), Telling("A0", None, 0, at_ms=1_400), *GOOD.told]
    twice = replace(GOOD, told=told)
    bad = [Span(1_300, 2_000), Span(700, 1_300)]  # without a break
    died = replace(twice, unwritable=bad, crashes=[1_500])
    assert judge(died).kept
    condemning = [
        replace(died, crashes=[]),
        replace(died, unwritable=[Span(1_800, 2_000)], crashes=[1_900]),  # told on a good disk
        replace(died, crashes=[1_300]),  # it ended later: a run that lives must know it
        replace(died, told=[told[0], *GOOD.told]),  # it had not ended, so the broker still had it
        replace(died, raises=[*GOOD.raises, Raise(KEY, "A0", False)]),  # the journal had it
    ]
    for history in condemning:
        assert condemned(history) == {"alarms raised twice": 1}


def test_a_nameless_message_that_a_killed_broker_gave_again_raises_again() -> None:
    history = replace(GOOD, raises=[*GOOD.raises, Raise(PRESS, "B", True)], stored={0: 1, 1: 2, 2: 1})
    assert condemned(history) == {"alarms raised twice": 1}
    assert judge(replace(history, forgotten=[Span(0, 1)])).kept


def test_a_message_that_is_known_again_raises_once_unless_the_disk_took_nothing_before_a_crash() -> None:
    told = [telling._replace(at_ms=1_100) for telling in GOOD.told]
    again = replace(GOOD, told=told, raises=[*GOOD.raises, Raise(KEY, "A", True)], forgotten=[Span(0, 1)])
    assert condemned(again) == {"alarms raised twice": 1}
    blind = replace(again, unwritable=[Span(700, 2_000)], crashes=[1_500])
    assert judge(blind).kept
    assert not judge(replace(blind, crashes=[])).kept
    assert not judge(replace(blind, crashes=[9_000])).kept
    assert not judge(replace(blind, forgotten=[])).kept
    early = [telling._replace(at_ms=100) for telling in told]
    assert not judge(replace(blind, told=early)).kept  # it had raised before, and that was on the disk


def test_orphans_on_the_broker_and_on_the_board_are_condemned() -> None:
    assert condemned(replace(GOOD, retained={**GOOD.retained, "C": ("x", 1)})) == {
        "retained alarms orphaned": 1
    }
    assert condemned(replace(GOOD, retained={"A": (KEY, 1)})) == {"retained alarms orphaned": 1}
    assert condemned(replace(GOOD, retained={"A": (KEY, 1), "B": (PRESS, 1)})) == {
        "retained alarms orphaned": 1
    }


def test_an_alarm_that_stands_although_its_cause_is_over_is_condemned() -> None:
    cause = Cause("d0", (KEY,), (0,), (2,), False)
    assert condemned(replace(GOOD, causes=[cause])) == {"alarms that outlive their cause": 1}


def test_an_alarm_begun_anew_by_a_killed_broker_may_outlive_its_cause() -> None:
    causes = [GOOD.causes[0], Cause("d1", (PRESS,), (1,), (2,), False)]
    history = replace(GOOD, causes=causes, stored={0: 1, 1: 2, 2: 1})
    assert condemned(history) == {"alarms that outlive their cause": 1}
    assert judge(replace(history, forgotten=[Span(0, 1)])).kept


def test_a_danger_that_its_device_told_when_it_was_over_need_not_raise() -> None:
    causes = [Cause("d9", ("k",), (1,), (2,), False), *GOOD.causes]
    assert condemned(replace(GOOD, causes=causes)) == {"alarms lost": 1}
    assert judge(replace(GOOD, causes=[causes[0]._replace(certain=False), *GOOD.causes])).kept


def test_an_older_version_told_after_a_newer_is_condemned() -> None:
    told = [*GOOD.told, Telling("B", PRESS, 1)]
    assert condemned(replace(GOOD, told=told)) == {"versions that ran backwards": 1}


def test_two_orders_for_one_danger_are_condemned() -> None:
    assert condemned(replace(GOOD, orders={("d1", "confirm"): {"O", "P"}})) == {"orders given twice": 1}


def test_what_the_cloud_lacks_and_what_went_wrong_beside_the_books_is_condemned() -> None:
    assert condemned(replace(GOOD, cloud_missing=["reading 2"])) == {"stored, but not in the cloud": 1}
    assert condemned(replace(GOOD, complaints=["a traceback"])) == {"the gateway ran on": 1}


# --- the disk -------------------------------------------------------------------------------------------------

WRITER = """
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode = WAL")
base.execute(f"PRAGMA synchronous = {sys.argv[2]}")
base.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)")
for line in sys.stdin:
    try:
        base.execute("INSERT INTO t VALUES (?, randomblob(3000))", (int(line),))
        print("ok", flush=True)
    except sqlite3.OperationalError as error:
        print(error, flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "data").mkdir()
    disk = Disk(tmp_path / "data", tmp_path)
    yield disk
    disk.close()


class Writer:
    """A process that commits to a database on the disk."""

    def __init__(self, disk: Disk, folder: Path, synchronous: str = "FULL") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, folder / "data" / "t.db", synchronous],
            env={**os.environ, **disk.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def commit(self, number: int) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill9(self) -> None:
        self._process.kill()
        self._process.communicate()


READER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
there = base.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
print(*(number for number, in base.execute("SELECT n FROM t" if there else "SELECT 1 WHERE 0")))
"""


def on_disk(folder: Path) -> list[int]:
    """What a process without the shim finds."""
    said = subprocess.run(
        [sys.executable, "-c", READER, folder / "data" / "t.db"], capture_output=True, text=True, check=True
    )
    return [int(number) for number in said.stdout.split()]


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (Mode.FULL, "database or disk is full"),
        (Mode.READ_ONLY, "disk I/O error"),
        (Mode.FAILING, "disk I/O error"),
    ],
)
def test_the_disk_fails_on_command_and_works_again(disk: Disk, tmp_path: Path, mode: Mode, told: str) -> None:
    writer = Writer(disk, tmp_path)
    try:
        assert writer.commit(1) == "ok"
        disk.order(mode)
        assert writer.commit(2) == told
        assert disk.refusals > 0
        disk.order(Mode.WELL)
        assert writer.commit(3) == "ok"
    finally:
        writer.kill9()
    assert on_disk(tmp_path) == [1, 3]


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_takes_nothing_that_was_synced(disk: Disk, tmp_path: Path, seed: int) -> None:
    writer = Writer(disk, tmp_path)
    try:
        assert [writer.commit(number) for number in range(5)] == ["ok"] * 5
    finally:
        writer.kill9()
    disk.lose_power(Random(seed))
    assert on_disk(tmp_path) == [0, 1, 2, 3, 4]


def test_a_power_cut_takes_what_was_not_synced(disk: Disk, tmp_path: Path) -> None:
    writer = Writer(disk, tmp_path, synchronous="NORMAL")
    try:
        assert [writer.commit(number) for number in range(5)] == ["ok"] * 5
    finally:
        writer.kill9()
    assert disk.lose_power(Random(2)) > 5
    assert len(on_disk(tmp_path)) < 5  # or the test before this one would prove nothing


# --- the network ----------------------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[int]:
    """A port where everything said comes back."""
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                while data := connection.recv(100):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def silent(near: socket.socket) -> bool:
    near.settimeout(0.3)
    try:
        near.recv(100)
    except TimeoutError:
        return True
    finally:
        near.settimeout(5)
    return False


def test_a_partition_passes_nothing_and_loses_nothing(echo: int) -> None:
    with Proxy(echo, 1) as proxy, socket.create_connection((HOST, proxy.port), 5) as near:
        near.sendall(b"one")
        assert near.recv(100) == b"one"
        proxy.be(Weather.PARTITION)
        near.sendall(b"two")
        assert silent(near)
        proxy.be(Weather.FAIR)
        assert near.recv(100) == b"two"


def test_a_half_open_connection_is_silent_until_it_is_told_and_new_ones_work(echo: int) -> None:
    with Proxy(echo, 1) as proxy, socket.create_connection((HOST, proxy.port), 5) as near:
        near.sendall(b"one")
        assert near.recv(100) == b"one"
        proxy.half_open()
        assert silent(near)
        near.sendall(b"two")
        assert silent(near)
        with socket.create_connection((HOST, proxy.port), 5) as again:
            again.sendall(b"three")
            assert again.recv(100) == b"three"
        proxy.forget_half_open()
        assert near.recv(100) == b""


# --- what is said ---------------------------------------------------------------------------------------------


def test_dangers_have_devices_of_their_own_and_every_message_a_number_of_its_own() -> None:
    traffic = Traffic(1, rate=200, dangers_per_s=5)
    traffic.duplicating = traffic.corrupting = traffic.reordering = True
    said = [message for tick in range(2_000) for message in traffic.due(1_000 + tick * 0.05)]
    assert [message.number for message in traffic.messages] == list(range(len(traffic.messages)))
    assert len(said) == len(traffic.messages)
    assert len({danger.device for danger in traffic.dangers}) == len(traffic.dangers) > 100
    assert {danger.kind for danger in traffic.dangers} == {"smoke", "button", "charger", "elevator"}
    raising = [number for danger in traffic.dangers for number in danger.raising]
    assert len(raising) == len(set(raising))
    assert {message.copies for message in said if not message.repeatable} == {1}
    assert {message.copies for message in said} == {1, 2, 3}


# --- the whole system -----------------------------------------------------------------------------------------


def test_through_a_short_storm_of_faults_nothing_is_lost_and_nothing_is_raised_twice(tmp_path: Path) -> None:
    run = Run(SEED, STORM_MINUTES, STORM_FAULTS, tmp_path)
    assert {step.fault for step in run.plan} == set(STORM_FAULTS)
    outcome = run.play()
    assert outcome.verdict.kept, f"\n{outcome.verdict}\nplan:\n" + "\n".join(map(str, outcome.plan))
    assert outcome.said > 2_000
    assert outcome.dangers > 15
