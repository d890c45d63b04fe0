"""`anlin rules apply`: what the node runs changes whole and only when a person says so, whatever dies meanwhile."""

import asyncio
import json
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.checking import engine_of, load_registry, load_rules
from edge.cli import main
from edge.control_client import ControlError
from edge.desks.rule_desk import RuleDesk
from edge.node import Node
from edge.people import UndecidedError
from edge.rulebook import at_start, compiled, difference, on_disk, with_files
from edge.rulewatch import RuleWatch
from edge.settings import Config
from edge.store.errors import StoreError
from edge.store.records import KeptRules, RuleDocument
from rules.engine import Engine
from rules.state import State
from tests.gateway import ANLIN, ROOT, Gateway
from tests.node_world import FailingDisk, FullDisk, node_world, rows
from tests.rule_world import warm
from tests.servers import Mosquitto
from tests.test_crash import Load
from tests.waiting import PATIENCE_S, eventually, until
from tests.wire import Wire

KILLS = 3


# --- the rule book ------------------------------------------------------------------------------------------


def config_with(folder: Path, *names: str) -> Config:
    return Config(data_dir=folder / "data", rules=tuple(folder / name for name in names))


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def kept_from(config: Config) -> KeptRules:
    return at_start(config, None, 1)[1]


def test_the_first_start_takes_what_the_configuration_names_and_later_ones_what_is_in_force(
    tmp_path: Path,
) -> None:
    write(tmp_path, "mine.yaml", warm(30))
    config = config_with(tmp_path, "mine.yaml")
    rules, kept, unreadable = at_start(config, None, 7)
    assert (kept.hash, kept.at, unreadable) == (rules.hash, 7, None)
    write(tmp_path, "mine.yaml", warm(45))
    again, same, _ = at_start(config, kept, 8)
    assert (again.hash, same) == (rules.hash, kept)
    write(tmp_path, "mine.yaml", "rules: [{id: x}]")
    assert at_start(config, kept, 9)[0].hash == rules.hash  # a faulty file stops no gateway that has rules


def test_rules_that_this_version_cannot_read_give_way_to_those_on_disk(tmp_path: Path) -> None:
    config = config_with(tmp_path)
    kept = kept_from(config)
    older = KeptRules("old", 1, (*kept.documents[:-1], RuleDocument("x", "rules: [{id: x}]")))
    rules, fresh, unreadable = at_start(config, older, 5)
    assert rules.hash == fresh.hash == kept.hash
    assert unreadable is not None
    assert unreadable.startswith("x:1: rules[0] (x)")


def test_what_differs_on_disk_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine.yaml", warm(30))
    config = config_with(tmp_path, "mine.yaml")
    kept = kept_from(config)
    assert difference(config, kept) is None
    write(tmp_path, "mine.yaml", warm(30).replace("warm raises", "a better name"))
    assert difference(config, kept) is None  # examples mean nothing to the gateway
    write(tmp_path, "mine.yaml", warm(40))
    assert difference(config, kept) == (
        "rules on disk differ: changed warm; apply with `anlin rules apply mine.yaml`"
    )
    write(tmp_path, "mine.yaml", "rules: [{id: x}]")
    told = difference(config, kept)
    assert told is not None
    assert told.startswith("rules on disk are faulty and not in force: mine.yaml:1: rules[0] (x)")
    (tmp_path / "mine.yaml").unlink()
    assert difference(config, kept) == (
        "rules on disk are faulty and not in force: mine.yaml: does not exist"
    )
    assert difference(config_with(tmp_path), kept) == (
        "rules on disk differ: removed warm; apply with `anlin rules apply`"
    )


def test_a_file_that_the_configuration_does_not_name_stays_as_long_as_it_is_there(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", warm(30))
    config = config_with(tmp_path)
    first = kept_from(config)
    documents = with_files(config, first, [tmp_path / "mine.yaml"])
    assert [each.file for each in documents[-1:]] == [str(tmp_path / "mine.yaml")]
    kept = KeptRules(compiled(config, documents).hash, 2, tuple(documents))
    assert difference(config, kept) is None
    assert on_disk(config, kept) == documents
    (tmp_path / "mine.yaml").unlink()
    assert [each.file for each in on_disk(config, kept)] == [each.file for each in first.documents]


# --- the swap in the node -----------------------------------------------------------------------------------


def another(folder: Path, text: str) -> tuple[Engine, KeptRules]:
    config = config_with(folder, "mine.yaml")
    write(folder, "mine.yaml", text)
    rules, kept, _ = at_start(config, None, 5)
    return engine_of(config, load_registry(config), rules), kept


def old_and_new(folder: Path, old: str, new: str) -> tuple[Engine, KeptRules, Engine, KeptRules]:
    """Rules to begin with, and rules to change to; the node's folder is there."""
    (folder / "data").mkdir()
    return *another(folder, old), *another(folder, new)


def test_other_rules_hold_from_one_batch_on_and_after_a_crash(tmp_path: Path) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30, "1h"), warm(30, "2h"))

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            world.connect()
            world.say("smoke/s1/telemetry", b'{"smoke": true}', 1)
            world.say("charger/p1/telemetry", b'{"temperature": 31}', 2)
            await world.node.commits.drain()
            smoke = next(iter(world.node.board.values()))
            due = due_of(world.node)
            assert await world.node.people.succeed(new_engine, new_kept)
            assert world.node.rules.engine is new_engine
            assert next(iter(world.node.board.values())) == smoke
            assert due_of(world.node) > due + 3_000_000
            assert rows(tmp_path / "data", "SELECT hash FROM rule_sets ORDER BY id") == [
                (kept.hash,), (new_kept.hash,)]  # fmt: skip
            world.say("charger/p1/telemetry", b'{"temperature": 33}', 3)
            await world.node.commits.drain()
            due = due_of(world.node)
        async with node_world(tmp_path / "data", rules=new_engine.rules, kept=new_kept) as again:
            assert due_of(again.node) == due
            assert dict(again.node.board) == {smoke.id: smoke}

    asyncio.run(scene())


MEAN = """rules:
  - id: mean-warm
    kind: charger
    when: mean(temperature, '5m') >= 40
    severity: low
    text: {en: warm, zh: 热}
    examples: []
"""


def test_windows_of_a_new_rule_know_what_was_said_before_it(tmp_path: Path) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30), MEAN)

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            world.connect()
            await until(lambda: not world.node.intake.state.catching_up)
            for number, degrees in enumerate((50, 50, 50, 25)):
                world.say("charger/p1/telemetry", b'{"temperature": %d}' % degrees, 1 + number)
            await world.node.commits.drain()
            recall = world.node.people.recall(new_engine)
            await asyncio.to_thread(recall.learn, world.node.clock.now_ms())
            world.say("charger/p2/telemetry", b'{"temperature": 50}', 9)
            assert await world.node.people.succeed(new_engine, new_kept, recall)
            raised = {alarm.device for alarm in world.node.board.values() if alarm.rule == "mean-warm"}
            assert raised == {"p1", "p2"}

    asyncio.run(scene())


def due_of(node: Node) -> int:
    due = next(
        each.ongoing["warm"].due for each in node.intake.state.devices.values() if "warm" in each.ongoing
    )
    assert due is not None
    return due


def test_a_commit_that_fails_leaves_the_rules_that_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30), warm(25))
    disk = FailingDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            connection = world.connect()
            world.say("charger/p1/telemetry", b'{"temperature": 31}', 1)
            await world.node.commits.drain()
            board = dict(world.node.board)
            disk.fails = 2  # with an alarm in it, it is tried once more
            with pytest.raises(StoreError):
                await world.node.people.succeed(new_engine, new_kept)
            await until(lambda: not world.node.deaf)
            assert world.node.intake.engine.rules.hash == kept.hash
            assert not world.node.rules.under_way
            assert dict(world.node.board) == board
            assert connection
            assert await world.node.people.succeed(new_engine, new_kept)
            assert [alarm.superseded for alarm in world.node.board.values()] == ["changed"]

    asyncio.run(scene())


def test_a_commit_that_failed_and_is_on_disk_all_the_same_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30), warm(25))
    disk = FailingDisk(monkeypatch)

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            world.connect()
            await world.node.commits.drain()
            disk.fails, disk.after = 1, True
            with pytest.raises(StoreError):
                await world.node.people.succeed(new_engine, new_kept)
            await until(lambda: not world.node.deaf)
            assert world.node.intake.engine.rules.hash == new_kept.hash
            assert world.node.rules.kept == new_kept

    asyncio.run(scene())


def test_a_full_disk_takes_no_other_rules_and_no_other_list_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30), warm(25))
    disk = FullDisk(monkeypatch)
    config = config_with(tmp_path, "mine.yaml")
    asked = msgspec.json.encode(
        {"documents": new_kept.documents, "hash": new_kept.hash, "after": kept.hash, "listed": []}
    )

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            watch = RuleWatch(world.node, config)
            make_engine = partial(engine_of, config, load_registry(config))
            desk = RuleDesk(world.node, partial(compiled, config), make_engine, watch)
            world.connect()
            await world.node.commits.drain()
            disk.full = True
            for number in range(400):
                world.say(f"charger/p{number}/telemetry", b'{"temperature": 20}', 1 + number)
            await until(lambda: world.node.commits.storing != "all")
            with pytest.raises(StoreError):
                await world.node.people.succeed(new_engine, new_kept)
            with pytest.raises(StoreError):
                await desk.apply(asked)
            assert world.node.intake.engine.rules.hash == kept.hash
            await watch.look()
            assert "differ: changed warm;" in (
                watch.difference or ""
            )  # the list that was refused is not watched
            disk.full = False

    asyncio.run(scene())


def test_an_engine_that_cannot_take_over_leaves_the_one_that_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kept, new_engine, new_kept = old_and_new(tmp_path, warm(30), warm(25))

    def broken(state: State, *_: Any) -> None:
        state.alarms.clear()
        raise ZeroDivisionError

    monkeypatch.setattr(new_engine, "rejudge", broken)

    async def scene() -> None:
        async with node_world(tmp_path / "data", rules=engine.rules, kept=kept) as world:
            world.connect()
            world.say("charger/p1/telemetry", b'{"temperature": 31}', 1)
            await world.node.commits.drain()
            board = dict(world.node.board)
            with pytest.raises(UndecidedError):
                await world.node.people.succeed(new_engine, new_kept)
            await until(lambda: not world.node.deaf)
            assert {alarm.id: alarm for alarm in world.node.intake.state.alarms.values()} == board
            assert world.node.intake.engine.rules.hash == kept.hash

    asyncio.run(scene())


# --- the gateway --------------------------------------------------------------------------------------------


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto.as_shipped() as broker:
        yield broker


def in_force(gateway: Gateway) -> str:
    return str(gateway.ask("status")["rules"]["hash"])


class Typed:
    """The command line in this process, on the configuration of ``gateway``."""

    def __init__(self, gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = ("--config", str(gateway.folder / "anlin.yaml"))
        self._capsys = capsys

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        code = main((*argv, *self._config))
        out, err = self._capsys.readouterr()
        return code, out, err

    def apply(self, *argv: str) -> tuple[int, str, str]:
        return self("rules", "apply", "--jobs", "1", *argv)


def answered(gateway: Gateway, file: Path, answer: bytes) -> bytes:
    """What `anlin rules apply` says to a person at a terminal who answers so."""
    parent, child = pty.openpty()
    command = [*ANLIN, "rules", "apply", str(file), "--config", str(gateway.folder / "anlin.yaml")]
    with subprocess.Popen(command, cwd=ROOT, stdin=child, stdout=subprocess.PIPE) as asking:
        os.write(parent, answer)
        out, _ = asking.communicate(timeout=PATIENCE_S)
    os.close(parent)
    os.close(child)
    return out


def test_rules_change_when_a_person_applies_them_and_not_before(
    tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(tmp_path, "mine.yaml", warm(30))
    with (
        Gateway(tmp_path / "gw", broker.port, rules=[str(mine)], language="en") as gateway,
        Wire(broker.port) as wire,
    ):
        typed, first = Typed(gateway, capsys), in_force(gateway)
        wire.publish("charger/p1/telemetry", {"temperature": 31}, 1)
        wire.publish("smoke/s1/telemetry", {"smoke": True}, 2)
        eventually(lambda: {alarm["rule"] for alarm in gateway.board().values()} >= {"warm", "smoke-alarm"})

        write(tmp_path, "mine.yaml", "rules: [{id: x}]")
        code, out, err = typed.apply(str(mine), "--yes")
        assert (code, out) == (2, "")
        assert f"{mine}:1: rules[0] (x)" in err
        write(tmp_path, "mine.yaml", warm(40).replace("at: 0s, change", "at: 1s, change"))
        code, out, err = typed.apply(str(mine), "--yes")
        assert (code, out.splitlines()[-1]) == (1, "nothing was changed")
        assert "warm raises: raised came at 0s, unexpected" in err
        assert in_force(gateway) == first

        write(tmp_path, "mine.yaml", warm(40))
        gateway.restart()
        assert in_force(gateway) == first
        eventually(lambda: "rules_differ" in gateway.reasons())
        _, status, _ = typed("status")
        remedy = f"apply with `anlin rules apply {mine}`"
        assert f"  rules_differ: rules on disk differ: changed warm; {remedy}" in status
        assert f"version {first[:12]}, in force since" in status
        assert ": ok, up" in status
        smoke = next(alarm for alarm in gateway.board().values() if alarm["rule"] == "smoke-alarm")

        code, _, err = typed.apply(str(mine))
        assert code == 2
        assert "nobody can be asked here: say --yes" in err
        code, out, _ = typed.apply(str(mine), "--yes")
        assert code == 0
        assert "changed: warm\n1 alarms of changed or removed rules stand" in out
        assert "all 1 examples of 1 rules pass" in out
        assert "warm: raised 1 with the rules in force, 0 with the new rules" in out
        second = in_force(gateway)
        assert second != first
        board = {alarm["rule"]: alarm for alarm in gateway.board().values()}
        assert (board["warm"]["superseded"], board["warm"]["state"]) == ("changed", "unacked")
        assert board["smoke-alarm"] == smoke
        assert "rules_differ" not in gateway.reasons()
        assert typed.apply(str(mine), "--yes")[1].startswith("nothing to apply: these rules are in force\n")

        other = write(tmp_path, "other.yaml", warm(35).replace("id: warm", "id: other"))
        assert b"nothing was changed" in answered(gateway, other, b"n\n")
        assert in_force(gateway) == second
        answer = answered(gateway, other, b"y\n")
        assert b"apply? [y/N] " in answer
        assert b"other.yaml is not among `rules:` of the configuration" in answer
        third = in_force(gateway)
        gateway.kill9()
        gateway.start()
        assert in_force(gateway) == third != second


def test_the_commands_in_the_guide_do_what_it_says(
    tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "rules.md").read_text("utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^\$ anlin (.*)$", guide, re.MULTILINE)]
    assert len(commands) >= 6
    monkeypatch.chdir(tmp_path)
    rare = warm(190).replace("99", "195")  # no shipped scenario gets so hot
    write(tmp_path, "my-rules.yaml", rare)
    write(tmp_path, "my-rules-old.yaml", rare.replace("190", "180"))
    with Gateway(tmp_path / "gw", broker.port) as gateway:
        typed = Typed(gateway, capsys)
        for command in commands:
            if command[1] == "test":
                continue  # plays every shipped story; its own tests do
            code, _, err = typed(*command, *(["--jobs", "1"] if command[1] in ("replay", "apply") else []))
            assert (code, err) == (0, ""), command
        assert gateway.ask("status")["rules"]["rules"] == len(load_rules(Config()).rules) + 1


def test_killed_at_any_moment_of_an_apply_the_gateway_runs_wholly_the_old_or_wholly_the_new_rules(
    tmp_path: Path, broker: Mosquitto
) -> None:
    mine = tmp_path / "mine.yaml"
    write(tmp_path, "mine.yaml", warm(30))
    rng = random.Random(4)
    outcomes = set()
    with (
        Gateway(tmp_path / "gw", broker.port, rules=[str(mine)]) as gateway,
        Wire(broker.port) as wire,
        Load(wire),
    ):
        wire.publish("charger/hot/telemetry", {"temperature": 35}, "hot")
        eventually(lambda: any(alarm["rule"] == "warm" for alarm in gateway.board().values()))
        for number in range(KILLS):
            before = in_force(gateway)
            write(tmp_path, "mine.yaml", warm(20 + number))
            config = Config(data_dir=gateway.data_dir, rules=(mine,))
            documents = on_disk(config)
            after = compiled(config, documents).hash
            shot = threading.Timer(rng.uniform(0.0, 0.3), partial(os.kill, gateway.pid, signal.SIGKILL))
            shot.start()
            with suppress(ControlError):  # it was dying
                gateway.ask("apply_rules", documents=documents, hash=after, after=before)
            shot.join()
            gateway.kill9()
            gateway.start()
            found = in_force(gateway)
            assert found in (before, after)
            alarm = next(alarm for alarm in gateway.board().values() if alarm["rule"] == "warm")
            if number == 0:
                assert alarm["superseded"] == ("changed" if found == after else None)
            outcomes.add(found == after)
    assert outcomes


def test_applying_needs_a_gateway_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANLIN_LANGUAGE", "en")
    assert main(["rules", "apply"]) == 1
    assert (
        f"no gateway runs on {tmp_path}/data/node.sock: start it with `anlin run`" in capsys.readouterr().err
    )


def test_after_the_list_of_the_configuration_was_applied_the_gateway_watches_that_list(
    tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(tmp_path, "mine.yaml", warm(190).replace("99", "195"))
    configuration = tmp_path / "gw" / "anlin.yaml"

    def listing(*files: Path) -> None:
        settings = json.loads(configuration.read_text("utf-8"))
        configuration.write_text(json.dumps(settings | {"rules": [str(file) for file in files]}))

    with Gateway(tmp_path / "gw", broker.port, rules=[], language="zh") as gateway:
        typed, shipped = Typed(gateway, capsys), in_force(gateway)

        listing(mine)
        code, out, _ = typed.apply("--yes")
        assert code == 0
        assert out.startswith("新增：warm\n1 条规则的 1 个示例全部通过\n")
        assert "“新规则”与“正在运行的规则”的差别：" in out
        assert "\n已启用；规则：" in out
        added = in_force(gateway)
        assert added != shipped
        assert "rules_differ" not in gateway.reasons()

        listing()
        code, out, _ = typed.apply("--yes")
        assert code == 0
        assert out.startswith("删除：warm\n没有需要运行的示例\n")
        assert in_force(gateway) == shipped
        assert "rules_differ" not in gateway.reasons()

        assert "mine.yaml 不在配置的 `rules:` 中" in typed.apply(str(mine), "--yes")[1]
        listing(mine)  # as it was told to
        assert typed.apply("--yes")[1].startswith("没有可启用的变化：这些规则正在运行\n")
        listing()
        assert typed.apply("--yes")[1].startswith("删除：warm\n")
        assert in_force(gateway) == shipped

        gateway.terminate()
        gateway.configure(rules=[str(mine)])
        gateway.start()
        assert in_force(gateway) == shipped
        eventually(lambda: "rules_differ" in gateway.reasons())
        _, status, _ = typed("status")
        assert (
            f"磁盘上的规则与运行的不同（rules_differ）：新增 warm；用 `anlin rules apply {mine}` 启用。"
            in status
        )
        assert status.count("rules apply") == 1
