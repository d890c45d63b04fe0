"""``anlin rules apply``: check, run the examples, try on the last day, show, ask, and let the node take over.

Nothing changes before the last step, and that one is the node's (`edge.desks.rule_desk`): one commit, or none.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from devices.faults import ConfigurationError, Fault
from edge.checking import load_registry
from edge.control_client import ControlError, request
from edge.error_words import told
from edge.replay.command import tried
from edge.replay.failure import ReplayError
from edge.replay.report import difference_lines
from edge.replay.trial import Span
from edge.rulebook import compiled, in_force, on_disk, same_files, with_files
from edge.settings import Config, shown_path
from edge.shell.reports import RulesInForce, StatusReport, rules_line
from edge.shell.verbs import EXIT_WRONG, print_lines, socket_of
from edge.store.errors import StoreError
from edge.store.records import KeptRules, RuleDocument
from rules.definitions import RuleSet
from rules.examples import run
from rules.reach import look_back_ms
from rules.succession import RuleChanges, changes_between
from rules.wording import mismatch_line

DAY_MS = 86_400_000
WARM_UP_MOST_MS = 3_600_000
"""Somebody waits: what looks further back begins with the day."""
TIMEOUT_S = 60.0
PATIENCE_S = 5.0


class ApplyError(ControlError):
    """It cannot be done now; the text says what to do."""


class _Applied(msgspec.Struct, frozen=True):
    rules: RulesInForce
    durable: bool


def apply(arguments: argparse.Namespace, config: Config) -> int:
    """0 when the rules are in force, 1 when nothing was changed.

    Raises `ConfigurationError` for a fault in the files, `ControlError` where no gateway takes them.
    """
    words = _WORDS[config.language]
    status = msgspec.json.decode(request(socket_of(config), "status"), type=StatusReport)
    kept = _in_force(config, status)
    documents = with_files(config, kept, arguments.files) if arguments.files else on_disk(config, kept)
    before, after = compiled(config, kept.documents), compiled(config, documents)
    changes = changes_between(before, after)
    if not changes:
        in_force_now, durable = status.rules, True
        if not same_files(documents, kept.documents):
            applied = _hand_over(config, documents, (before, after))
            in_force_now, durable = applied.rules, applied.durable
        line = "" if in_force_now is None else rules_line(in_force_now, config.language, config.timezone)
        _say(words["same"], line, "" if durable else words["not durable"])
        return 0
    _say(*_change_lines(changes, status, words))
    if not _examples_pass(after, changes, words, config.language):
        return EXIT_WRONG
    _try(config, (after, before), words, arguments.jobs)
    if not arguments.yes and not _agreed(words):
        _say(words["nothing"])
        return EXIT_WRONG
    _tell_applied(_hand_over(config, documents, (before, after)), config, documents, arguments, words)
    return 0


def _hand_over(
    config: Config, documents: Sequence[RuleDocument], rule_sets: tuple[RuleSet, RuleSet]
) -> _Applied:
    """From the first of the rule sets to the second, which these documents are."""
    before, after = rule_sets
    answer = request(
        socket_of(config),
        "apply_rules",
        timeout_s=TIMEOUT_S,
        documents=documents,
        hash=after.hash,
        after=before.hash,
        listed=[str(path) for path in config.rules],
    )
    return msgspec.json.decode(answer, type=_Applied)


def _in_force(config: Config, status: StatusReport) -> KeptRules:
    """What the journal keeps; at its first start, a gateway has a moment to write it."""
    patient_until = time.monotonic() + PATIENCE_S
    while True:
        kept = in_force(config)
        if kept is not None and status.rules is not None and kept.hash == status.rules.hash:
            return kept
        if time.monotonic() >= patient_until:
            raise ApplyError("the gateway cannot store its rules: see `anlin status`, then say it again")
        time.sleep(0.1)


def _change_lines(changes: RuleChanges, status: StatusReport, words: Mapping[str, str]) -> Iterable[str]:
    for what, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        if names:
            yield f"{words[what]}{', '.join(names)}"
    ended = frozenset((*changes.changed, *changes.removed))
    standing = [alarm for alarm in status.standing if alarm.rule in ended]
    if standing:
        yield words["standing"].format(count=len(standing))


def _examples_pass(after: RuleSet, changes: RuleChanges, words: Mapping[str, str], language: str) -> bool:
    fresh = [rule for rule in after.rules if rule.id in changes.fresh]
    wrong = [mismatch for rule in fresh for mismatch in run(rule, after)]
    for mismatch in wrong:
        sys.stderr.write(f"{mismatch_line(mismatch, language)}\n")
    if wrong:
        _say(words["nothing"])
        return False
    count = sum(len(rule.examples) for rule in fresh)
    _say(words["examples" if count else "no examples"].format(count=count, rules=len(fresh)))
    return True


def _try(
    config: Config,
    rule_sets: tuple[RuleSet, RuleSet],
    words: Mapping[str, str],
    jobs: int | None,
) -> None:
    """The last day with both; a history that cannot be read prevents nothing."""
    now = time.time_ns() // 1_000_000
    before_ms = max(look_back_ms(rules.rules) for rules in rule_sets)
    span = Span(now - DAY_MS, now, min(before_ms, WARM_UP_MOST_MS))
    names = words["new"], words["old"]
    try:
        report = tried(config, load_registry(config), rule_sets, names, span, jobs)
    except (StoreError, ReplayError) as error:
        _say(words["untried"].format(reason=told(error, config.language)))
        return
    _say(words["tried"].format(readings=report.readings, took=report.took_s))
    _say(*difference_lines(report, config.language, config.timezone))


def _agreed(words: Mapping[str, str]) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError([Fault("--yes", "", words["say yes"])])
    sys.stdout.write(words["ask"])
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes", "是", "好"}


def _tell_applied(
    applied: _Applied,
    config: Config,
    documents: Sequence[RuleDocument],
    arguments: argparse.Namespace,
    words: Mapping[str, str],
) -> None:
    _say(words["applied"].format(line=rules_line(applied.rules, config.language, config.timezone)))
    if not applied.durable:
        _say(words["not durable"])
    given = {str(path.absolute()) for path in arguments.files}
    for each in documents:
        if each.file in given and not each.configured:
            _say(words["loose"].format(file=shown_path(Path(each.file))))


def _say(*lines: str) -> None:
    print_lines(filter(None, lines))


_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "same": "nothing to apply: these rules are in force",
        "added": "new:     ",
        "changed": "changed: ",
        "removed": "removed: ",
        "standing": "{count} alarms of changed or removed rules stand; they stay until a person closes them",
        "examples": "all {count} examples of {rules} rules pass",
        "no examples": "there are no examples to run",
        "new": "the new rules",
        "old": "the rules in force",
        "tried": "the last day once more: {readings:,} readings in {took:.1f} s",
        "untried": "the last day could not be tried: {reason}",
        "ask": "apply? [y/N] ",
        "say yes": "nobody can be asked here: say --yes to apply",
        "nothing": "nothing was changed",
        "applied": "applied; {line}",
        "not durable": "the store does not take them now: they hold until a restart, or from when it works again",
        "loose": "{file} is not among `rules:` of the configuration: a new data directory would begin without it",
    },
    "zh": {
        "same": "没有可启用的变化：这些规则正在运行",
        "added": "新增：",
        "changed": "修改：",
        "removed": "删除：",
        "standing": "被修改或删除的规则有 {count} 个告警未结束，它们保留到有人关闭为止",
        "examples": "{rules} 条规则的 {count} 个示例全部通过",
        "no examples": "没有需要运行的示例",
        "new": "新规则",
        "old": "正在运行的规则",
        "tried": "用最近一天试运行：{readings:,} 条读数，用时 {took:.1f} 秒",
        "untried": "最近一天无法试运行：{reason}",
        "ask": "启用？[y/N] ",
        "say yes": "此处无人可问：加上 --yes 才会启用",
        "nothing": "没有任何改变",
        "applied": "已启用；{line}",
        "not durable": "目前无法写入存储：新规则有效至重启，或在存储恢复后保存",
        "loose": "{file} 不在配置的 `rules:` 中：请写入配置，新的数据目录以配置为准",
    },
}
