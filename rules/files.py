"""Rule files: from the parsed documents to the `RuleSet` that the engine runs (contract, section 8).

Pure and complete: every fault of every file is found in one go and told with file, line, rule, column where
there is one, reason and what was probably meant. A rule set exists only where nothing is wrong.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from devices.documents import Tree
from devices.faults import ConfigurationError, Fault, nearest
from devices.kinds import KINDS
from devices.kinds.commands import Command
from devices.kinds.traits import Kind
from devices.readings import Scalar
from rules.alarms import Severity
from rules.annunciation.common_causes import read_fold
from rules.annunciation.floods import check_floods, flood_vocabulary, read_flood
from rules.annunciation.suppression import check_causes, read_causes
from rules.definitions import Ack, Action, Condition, Let, Rule, RuleSet, Target
from rules.examples import read_examples
from rules.functions import FUNCTIONS
from rules.hours import PLAIN, Calendar
from rules.language.endings import check_truths
from rules.language.entries import Entry
from rules.language.expressions import compile_condition
from rules.language.syntax import ExpressionError
from rules.language.texts import check_languages, read_texts
from rules.language.timing import TIMING_KEYS, check_endings, read_timing
from rules.lets import read_lets, spoken_of
from rules.places import Level
from rules.vocabulary import Vocabulary

_KEYS = frozenset(
    {
        "id", "kind", "when", "clear", "cancel", "silent_for", "for", "per",
        "severity", "latch", "ack", "drill", "let", "text", "actions", "examples",
        "source", "suppressed_by", "fold", "flood", *TIMING_KEYS,
    }
)  # fmt: skip
_NOT_WITH_SILENCE = ("clear", "cancel", "for", "per", "clear_for", "clear_after")
_NOT_WITH_FLOOD = (
    *_NOT_WITH_SILENCE, "when", "silent_for", "latch", "actions", "suppressed_by", "fold",
    "cooldown", "escalate", "active",
)  # fmt: skip
_SAID_ONLY = frozenset({"examples", "source"})
"""Keys that make no rule another one."""
_TAKEN = (
    "an id is unique over all files: mend the rule there, or give this one another id"
    " (`anlin rules replay --rules NEW --compare OLD` tries two versions of a file)"
)
_ID = re.compile(r"[a-z0-9-]{1,64}\Z")
_TRACK = "track"
_TEXT_LIMIT = 256
_WHOLE = re.compile(r"[0-9]{1,9}\Z")
_WHOLE_LIMIT = 86_400
_EXPIRES_LEAST_MS, _EXPIRES_MOST_MS = 1_000, 3_600_000


def parse(
    documents: Sequence[tuple[str, Tree]], kinds: Mapping[str, Kind] = KINDS, calendar: Calendar = PLAIN
) -> RuleSet:
    """Check rule documents, each with the name of its file, and make one `RuleSet` of them, in that order.

    ``calendar`` is what the hours of rules mean: with another one, a rule that has some is another rule.
    Raises `ConfigurationError` with every fault in every file.
    """
    faults: list[Fault] = []
    rules: list[Rule] = []
    meanings: list[Tree] = []
    files: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    for file, tree in documents:
        top = Entry(tree, "", file, faults)
        if isinstance(tree, dict):
            top.known({"rules"}, required=["rules"])
        for entry in top.entries("rules"):
            rule_id = _id(entry, files, file)
            rule = _RuleEntry(entry, kinds).read(rule_id, file)
            if rule is not None:
                meaning: dict[str, Tree] = {
                    key: value for key, value in entry.fields.items() if key not in _SAID_ONLY
                }
                if rule.active is not None:
                    meaning["calendar"] = list[Tree](calendar.meaning)
                rules.append(replace(rule, version=_hash(meaning)))
                entries[rule_id] = entry
                meanings.append(meaning)
    check_causes(rules, entries, faults)
    check_floods(rules, entries)
    if faults:
        raise ConfigurationError(faults)
    return RuleSet(tuple(rules), _hash(meanings), calendar)


def _hash(meaning: Tree) -> str:
    """Of what rules mean: texts count, examples and the spelling of the YAML do not."""
    return sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _id(entry: Entry, files: dict[str, str], file: str) -> str:
    """The rule's id, unique over all files; its path is named by it from here on."""
    rule_id = entry.text("id")
    if rule_id is None:
        return ""
    if not _ID.match(rule_id):
        entry.fault("id", "must be 1 to 64 of a-z, 0-9 and -", value=rule_id)
        return ""
    entry.path += f" ({rule_id})"
    if rule_id in files:
        where = "above" if files[rule_id] == file else f"in {files[rule_id]}"
        entry.fault("id", f"is taken by a rule {where}; {_TAKEN}", value=rule_id)
    files.setdefault(rule_id, file)
    return rule_id


class _RuleEntry:
    """One rule of a file."""

    def __init__(self, entry: Entry, kinds: Mapping[str, Kind]) -> None:
        self._entry = entry
        self._kinds = kinds

    def read(self, rule_id: str, file: str) -> Rule | None:
        """The rule, or None where something is wrong with it."""
        entry = self._entry
        before = entry.faults_so_far
        entry.known(_KEYS, required=["id", "kind", "severity", "text"])
        kind_name = entry.word("kind", self._kinds)
        severity = entry.word("severity", [str(severity) for severity in Severity])
        ack = entry.word("ack", [Ack.REQUIRED, Ack.NONE])
        latch, drill = entry.truth("latch"), entry.truth("drill")
        silent_for_ms = entry.duration("silent_for", least_ms=1_000)
        causes = read_causes(entry, severity)
        for_ms = entry.duration("for") or 0
        per = entry.word("per", [_TRACK])
        timing = read_timing(entry, Severity(severity or Severity.INFO))
        if kind_name is None:
            check_languages(entry)
            return None
        kind = self._kinds[kind_name]
        vocabulary = Vocabulary.of(kind)
        lets = read_lets(entry, vocabulary)
        when = self._condition("when", vocabulary, lets)
        clear = self._condition("clear", vocabulary, lets)
        cancel = self._condition("cancel", vocabulary, lets)
        flood = read_flood(entry, kind)
        fold = read_fold(entry, kind, uses_event=when is not None and when.uses_event)
        self._check_trigger(kind)
        if when is not None:
            self._check_events(when, clear, cancel, vocabulary)
            check_endings(entry, when, clear)
            check_truths(entry, vocabulary, when, clear, cancel)
        named = vocabulary.with_points(let.point for let in lets.values())
        if flood is not None:
            texts = read_texts(entry, flood_vocabulary())
        else:
            texts = read_texts(entry, named, events=when is None or when.uses_event)
        actions = self._actions(kind)
        examples = read_examples(entry, kind)
        if severity is None or entry.faults_so_far > before:
            return None
        return Rule(
            id=rule_id,
            kind=kind_name,
            severity=Severity(severity),
            text=texts,
            file=file,
            when=when,
            clear=clear,
            cancel=cancel,
            silent_for_ms=silent_for_ms,
            flood=flood,
            for_ms=for_ms,
            latch=latch,
            ack=Ack(ack or Ack.DEFAULT),
            per_track=per is not None,
            drill=drill,
            suppressed_by=causes,
            fold=fold,
            actions=actions,
            examples=examples,
            source=entry.text("source") or "",
            clear_for_ms=timing.clear_for_ms,
            clear_after_ms=timing.clear_after_ms,
            cooldown_ms=timing.cooldown_ms,
            escalate=timing.escalate,
            active=timing.active,
            safety=timing.safety,
            lets=spoken_of(lets, entry, [when, clear, cancel], texts.values()),
        )

    # What raises, clears and cancels

    def _condition(self, key: str, vocabulary: Vocabulary, lets: Mapping[str, Let]) -> Condition | None:
        source = self._entry.text(key)
        if source is None:
            return None
        try:
            return compile_condition(source, vocabulary, FUNCTIONS, lets)
        except ExpressionError as error:
            named = self._entry.fields.get("let")
            if isinstance(named, dict) and error.value in named and error.value not in lets:
                return None  # a name under `let` that is wrong itself, which is told there
            self._entry.fault(key, str(error), value=error.value or source, nearest=error.nearest)
            return None

    def _check_trigger(self, kind: Kind) -> None:
        entry = self._entry
        if entry.has("flood"):
            for key in _NOT_WITH_FLOOD:
                if entry.has(key):
                    entry.fault(key, "has no meaning with `flood`, which is about other alarms")
            return
        if not entry.has("silent_for"):
            if not entry.has("when") and _KEYS.issuperset(entry.fields):  # else it may be the misspelt key
                entry.fault(None, "needs `when` (what raises it) or `silent_for`")
            return
        if entry.has("when"):
            entry.fault("silent_for", "stands instead of `when`, not beside it")
        for key in _NOT_WITH_SILENCE:
            if entry.has(key):
                entry.fault(key, "has no meaning with `silent_for`: the next message ends a silence")
        if not kind.on_wire:
            entry.fault("silent_for", f"{kind.name} sends no messages, so it is never silent")

    def _check_events(
        self, when: Condition, clear: Condition | None, cancel: Condition | None, vocabulary: Vocabulary
    ) -> None:
        """Event fields exist only in their event: refuse what could then never come true."""
        entry = self._entry
        per_track = entry.fields.get("per") == _TRACK
        if not when.uses_event:
            if clear is not None and clear.uses_event:
                entry.fault("clear", "looks at an event field, but `when` does not", value=clear.source)
            if entry.has("cancel"):
                entry.fault("cancel", "only a rule whose `when` looks at an event can be cancelled")
            if per_track:
                entry.fault("per", "only a rule whose `when` looks at an event has tracks")
            return
        if per_track and _TRACK not in vocabulary.points:
            entry.fault("per", f"{vocabulary.kind.name} has no tracks")
        if cancel is not None and not cancel.uses_event:
            entry.fault("cancel", "must look at an event field", value=cancel.source)
        if entry.has("for") and not per_track:
            entry.fault("for", "an event has no duration; leave it out, or say `per: track`")

    # What it says and does

    def _actions(self, kind: Kind) -> tuple[Action, ...]:
        actions = (self._action(entry, kind) for entry in self._entry.entries("actions"))
        return tuple(action for action in actions if action is not None)

    def _action(self, entry: Entry, kind: Kind) -> Action | None:
        entry.known({"command", "args", "expires", "to"}, required=["command"])
        expires_ms = entry.duration("expires", least_ms=_EXPIRES_LEAST_MS, most_ms=_EXPIRES_MOST_MS)
        target = self._target(entry)
        if entry.has("to"):
            if target is None:
                return None
            kind = self._kinds[target.kind]
        name = entry.text("command")
        if name is None:
            return None
        command = kind.commands.get(name)
        if command is None:
            reason = f"{kind.name} obeys {', '.join(sorted(kind.commands)) or 'no command'}"
            entry.fault("command", reason, value=name, nearest=nearest(name, kind.commands))
            return None
        if not command.automatic:
            entry.fault("command", "is given by a person only, never by a rule", value=name)
        args = _arguments(entry, command)
        if expires_ms is None:
            return Action(name, args, to=target)
        return Action(name, args, -(-expires_ms // 1000), target)

    def _target(self, entry: Entry) -> Target | None:
        """Others that obey: which, and where they stand."""
        below = entry.entry("to")
        if below is None:
            return None
        below.known({"kind", "same"}, required=["kind", "same"])
        kind = below.word("kind", self._kinds)
        same = below.word("same", [str(level) for level in Level])
        return None if kind is None or same is None else Target(kind, Level(same))


def _arguments(entry: Entry, command: Command) -> Mapping[str, Scalar]:
    below = entry.entry("args")
    if below is None:
        return {}
    below.known(command.args)
    args: dict[str, Scalar] = {}
    for name, type_ in command.args.items():
        value = below.text(name)
        if value is None:
            continue
        if type_ is int:
            most = int(command.limits.get(name, _WHOLE_LIMIT))
            if not _WHOLE.match(value) or not 1 <= int(value) <= most:
                below.fault(name, f"must be a whole number from 1 to {most}", value=value)
            else:
                args[name] = int(value)
        elif not value.strip() or len(value) > _TEXT_LIMIT or not value.isprintable():
            below.fault(name, f"must be one line of 1 to {_TEXT_LIMIT} characters", value=value)
        else:
            args[name] = value
    return args
