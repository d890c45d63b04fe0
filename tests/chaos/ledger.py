"""The judgement: what was promised, against what came of it. Pure, so that made-up histories can test it.

Everything in a `History` was seen from outside the gateway, or read from its journal afterwards.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_SHOWN = 20
_OWN = ("store_failed", "store_damaged", "throttled")
"""Reasons of a gap by which the gateway itself leaves out of its journal what it has acknowledged."""

UNCOUNTED_MS = 61_000
"""A row of a babbling device is written each minute, a second after what it counts."""

OWN_SLACK_MS = 500
"""Between two looks at the ledger's own clock."""

TIMELESS = 2**63
"""Later than everything."""

UNKNOWN = 0
"""The losses of a gap of which nobody can know how many."""


class Said(NamedTuple):
    """A message that the broker has acknowledged."""

    number: int
    lane: str
    """`safety` or `bulk`."""
    at_ms: int
    """When it was acknowledged."""
    repeatable: bool
    """The gateway knows it again by its id or its time, so it must be stored once at most."""
    sent_ms: int | None = None
    """When it was first sent; None: just before it was acknowledged."""
    arrived_by_ms: int | None = None
    """The gateway has met it by then, through whatever stood in its way; None: at once."""
    babbling: bool = False
    """Of a device that says more than it may: what is left out of it is a gap `throttled`."""


class Cause(NamedTuple):
    """A danger that was staged: it must raise each of its alarms, once."""

    device: str
    keys: Sequence[str]
    raised_by: Sequence[int]
    ended_by: Sequence[int]
    stands_after_end: bool
    certain: bool = True
    """It lasted longer than the delay of its rule, by the times that its device gave; where the gateway did not
    believe these, because its own clock was wrong, also as the broker saw it (docs/adr/0009).
    """


class Raise(NamedTuple):
    """The journal: an alarm was raised, or raised again while it stood."""

    key: str
    alarm_id: str
    again: bool


class Telling(NamedTuple):
    """What a subscriber heard of an alarm; without key at its end."""

    alarm_id: str
    key: str | None
    version: int
    retained: bool = False
    at_ms: int = 0


class GapRow(NamedTuple):
    """A loss to which the gateway owns up."""

    lane: str
    losses: int
    from_ms: int
    to_ms: int
    reason: str


class Span(NamedTuple):
    """From … to, Unix ms."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True, kw_only=True)
class History:
    """What there was."""

    said: Sequence[Said] = ()
    stored: Mapping[int, int] = field(default_factory=dict)
    """How often the journal has each number."""
    came_late: Mapping[int, int] = field(default_factory=dict)
    """How many of these came more than five minutes after the one before: nobody must know them again by then."""
    causes: Sequence[Cause] = ()
    raises: Sequence[Raise] = ()
    told: Sequence[Telling] = ()
    orders: Mapping[tuple[str, str], Collection[str]] = field(default_factory=dict)
    """Ids of the orders that were heard, by device and command."""
    standing: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The board of the gateway at the end: key and version by id."""
    retained: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The same, as the broker holds it."""
    ended_by_people: Collection[str] = ()
    """Ids of alarms that a person has acknowledged or closed."""
    forgotten: Sequence[Span] = ()
    """The broker was killed at the end of each, and had saved itself last at its beginning."""
    gaps: Sequence[GapRow] = ()
    crashes: Sequence[int] = ()
    """When the gateway was killed or ended by itself: what it had counted of babbling devices since the last row
    of theirs goes with it (docs/adr/0012).
    """
    rivals: int = 0
    """How often it ended itself because it took a broker that fell again and again for a second gateway."""
    unwritable: Sequence[Span] = ()
    """The disk could not be written, or was perhaps not tried again yet: a crash then takes what was not stored and
    that it was not.
    """
    slack_ms: int = 500
    """Between the clock of the ledger and that of the gaps."""
    left_over: Sequence[str] = ()
    """What should have passed by the end: alarms that are not durable, troubles, a /healthz that is not 200."""
    cloud_missing: Sequence[str] = ()
    """What the journal has and the cloud store lacks."""
    cloud_checked: int = 0
    complaints: Sequence[str] = ()
    """What went wrong beside the books: the gateway ended by itself, a traceback."""


@dataclass(frozen=True)
class Row:
    """One line of the verdict. ``bad`` is empty when the promise was kept."""

    promise: str
    checked: int
    bad: Sequence[str]
    note: str = ""

    def __str__(self) -> str:
        mark = "FAIL" if self.bad else "ok"
        return f"{mark:4}  {self.promise:52} {self.checked:>9} {len(self.bad):>6}  {self.note}"


@dataclass(frozen=True)
class Verdict:
    """All lines."""

    rows: Sequence[Row]

    @property
    def kept(self) -> bool:
        """Every promise."""
        return not any(row.bad for row in self.rows)

    def __str__(self) -> str:
        lines = [f"{'':4}  {'promise':52} {'checked':>9} {'broken':>6}", *map(str, self.rows)]
        for row in self.rows:
            lines += [f"      {row.promise}: {each}" for each in row.bad[:MOST_SHOWN]]
            if len(row.bad) > MOST_SHOWN:
                lines.append(f"      … and {len(row.bad) - MOST_SHOWN} more")
        return "\n".join(lines)

    def table(self) -> str:
        """As Markdown."""
        lines = ["| promise | checked | broken | |", "|---|---:|---:|---|"]
        lines += [f"| {row.promise} | {row.checked:,} | {len(row.bad)} | {row.note} |" for row in self.rows]
        return "\n".join(lines)


def judge(history: History) -> Verdict:
    """Hold what came of it against what was promised."""
    missing = [said for said in history.said if not history.stored.get(said.number)]
    at_risk = [said for said in missing if any(_in(said.at_ms, span) for span in history.forgotten)]
    rest = [said for said in missing if not any(_in(said.at_ms, span) for span in history.forgotten)]
    owned, lost = _forgive(rest, history, lambda gap: gap.reason in _OWN)
    excused, unreported = _forgive(at_risk, history, lambda _: True)
    lost, uncounted = _uncounted(lost, history)
    lost, untold = _untold(lost, history)
    throttled = sum(said.babbling for said in owned)
    anew, died = _given_anew(history), _died(history)
    again = {cause.device: sum(died.get(key, 0) for key in cause.keys) for cause in history.causes}
    return Verdict(
        (
            Row(
                "acknowledged messages lost",
                len(history.said),
                [f"{_name(said)} is not in the journal" for said in lost],
                f"{len(owned) - throttled} owned up to by a gap row; of babbling devices {throttled}, and "
                f"{len(uncounted)} uncounted at a crash; {len(untold)} by a crash on a disk that could not be written",
            ),
            Row(
                "losses not reported",
                len(missing),
                [f"{_name(said)} went with the broker and no gap says so" for said in unreported],
                f"{len(excused)} lost by a killed broker",
            ),
            Row(
                "messages stored twice",
                sum(said.repeatable for said in history.said),
                [
                    f"{_name(said)} is in the journal {history.stored[said.number]} times"
                    for said in history.said
                    if said.repeatable and not said.babbling and _known_copies(said, history) > 1
                ],
                f"{sum(history.stored.get(said.number, 0) > 1 for said in history.said if not said.repeatable)}"
                f" that nothing tells from new ones came twice; {len(history.came_late)} after more than five minutes",
            ),
            *_alarms(history, {said.number for said in missing}),
            _orphans(history),
            Row(
                "orders given twice",
                len(history.orders),
                [
                    f"{device} was told {command} by {len(ids)} orders"
                    for (device, command), ids in history.orders.items()
                    if len(ids) > 1 + anew.get(device, 0) + again.get(device, 0)
                ],
            ),
            Row("stored, but not in the cloud", history.cloud_checked, history.cloud_missing),
            Row("all is well again at the end", 1, history.left_over),
            Row(
                "the gateway ran on",
                1,
                history.complaints,
                f"{len(history.crashes) - history.rivals} times it was killed; {history.rivals} times it took cut "
                "connections for a second gateway of its name and was started again",
            ),
        )
    )


def _known_copies(said: Said, history: History) -> int:
    """How often it is stored, but for those that came when it need not be known any more."""
    return history.stored.get(said.number, 0) - history.came_late.get(said.number, 0)


def _name(said: Said) -> str:
    return f"message {said.number} ({said.lane}, acknowledged at {said.at_ms})"


def _in(at_ms: int, span: Span, slack_ms: int = 0) -> bool:
    return span.from_ms - slack_ms <= at_ms <= span.to_ms + slack_ms


def _met(said: Said, span: Span, slack_ms: int) -> bool:
    """Whether the gateway may have met it within ``span``."""
    first = said.at_ms if said.sent_ms is None else said.sent_ms
    last = said.at_ms if said.arrived_by_ms is None else said.arrived_by_ms
    return first - slack_ms <= span.to_ms and last + slack_ms >= span.from_ms


def _uncounted(lost: Sequence[Said], history: History) -> tuple[list[Said], list[Said]]:
    """Those really lost, and those of babbling devices whose count a crash took."""
    spans = [Span(at - UNCOUNTED_MS, at) for at in history.crashes]
    uncounted = [said for said in lost if said.babbling and any(_met(said, span, 0) for span in spans)]
    numbers = {said.number for said in uncounted}
    return [said for said in lost if said.number not in numbers], uncounted


def _untold(lost: Sequence[Said], history: History) -> tuple[list[Said], list[Said]]:
    """Those really lost, and those that a gateway took with it which was killed while it could not write: that it
    had left them out is nowhere (docs/adr/0008).
    """
    spans = _blind(history)
    untold = [said for said in lost if any(_met(said, span, OWN_SLACK_MS) for span in spans)]
    numbers = {said.number for said in untold}
    return [said for said in lost if said.number not in numbers], untold


def _blind(history: History) -> list[Span]:
    """From when the disk could not be written to a crash: the next gateway knows nothing of what was met meanwhile."""
    return [
        Span(span.from_ms, at) for span in _unwritable(history) for at in history.crashes if _in(at, span)
    ]


def _unwritable(history: History) -> list[Span]:
    """Without a break: where the disk was bad again before it was tried, nothing was written in between."""
    spans: list[Span] = []
    for span in sorted(history.unwritable):
        if spans and span.from_ms <= spans[-1].to_ms:
            spans[-1] = Span(spans[-1].from_ms, max(spans[-1].to_ms, span.to_ms))
        else:
            spans.append(span)
    return spans


def _died(history: History) -> dict[str, int]:
    """By key: how many of its stays were told from beginning to end by a gateway that could store neither before it was
    killed. The next judges the cause anew where the journal has it, and gives a stay of its own (docs/adr/0008). What
    had not ended is remembered by the broker, unless that was killed, too, before the next gateway could look.
    """
    stored = {raise_.alarm_id for raise_ in history.raises}
    begun: dict[str, Telling] = {}
    ended: dict[str, int] = {}
    for telling in history.told:
        if telling.alarm_id in stored:
            continue
        if telling.key is not None:
            begun.setdefault(telling.alarm_id, telling)
        else:
            ended.setdefault(telling.alarm_id, telling.at_ms)
    died: dict[str, int] = defaultdict(int)
    for id_, first in begun.items():
        whole = Span(first.at_ms, ended.get(id_, TIMELESS))
        forgot = [span for span in history.forgotten if _in(first.at_ms, span)]
        if any(
            _in(whole.from_ms, span, OWN_SLACK_MS)
            and (whole.to_ms <= span.to_ms or any(span.to_ms <= gone.to_ms for gone in forgot))
            for span in _blind(history)
        ):
            died[first.key or ""] += 1
    return died


def _forgive(
    missing: Sequence[Said], history: History, counts: Callable[[GapRow], bool]
) -> tuple[list[Said], list[Said]]:
    """Those that a gap row owns up to, and the others. A row covers no more than it counts."""
    left = list(missing)
    owned: list[Said] = []
    for gap in filter(counts, history.gaps):
        room = len(left) if gap.losses == UNKNOWN else gap.losses
        span = Span(gap.from_ms, gap.to_ms)
        covered = [
            said
            for said in left
            if gap.lane in (said.lane, "readings")
            and (said.babbling or gap.reason != "throttled")
            and _met(said, span, history.slack_ms)
        ][:room]
        owned += covered
        numbers = {said.number for said in covered}
        left = [said for said in left if said.number not in numbers]
    return owned, left


def _given_anew(history: History) -> dict[str, int]:
    """By device: how many messages that raise its alarm a killed broker may have given again, as new ones: without the
    mark of a redelivery, because it had not saved that it had sent them. The gateway knows them by their id or time;
    not those that have neither, nor those met before a crash by one that could not write what it had heard.
    """
    if not history.forgotten:
        return {}
    said = {each.number: each for each in history.said}
    first_heard: dict[str | None, int] = {}
    for telling in history.told:
        first_heard.setdefault(telling.key, telling.at_ms)
    anew: dict[str, int] = {}
    for cause in history.causes:
        raising = [said[number] for number in cause.raised_by if number in said]
        nameless = sum(history.stored.get(each.number, 1) - 1 for each in raising if not each.repeatable)
        nameless += sum(history.came_late.get(each.number, 0) for each in raising if each.repeatable)
        heard = max(first_heard.get(key, TIMELESS) for key in cause.keys)
        forgotten = sum(
            any(each.repeatable and _met(each, span, OWN_SLACK_MS) for each in raising)
            for span in _blind(history)
            if heard >= span.from_ms - OWN_SLACK_MS  # it was not on the disk before
        )
        anew[cause.device] = nameless + forgotten
    return anew


def _alarms(history: History, missing: Collection[int]) -> list[Row]:
    known = {said.number for said in history.said}
    anew = _given_anew(history)
    died = _died(history)
    raised: dict[str, set[str]] = defaultdict(set)
    raisings: dict[str, int] = defaultdict(int)
    again: dict[str, int] = defaultdict(int)
    for raise_ in history.raises:
        raised[raise_.key].add(raise_.alarm_id)
        raisings[raise_.key] += not raise_.again
        again[raise_.key] += raise_.again
    heard: dict[str, set[str]] = defaultdict(set)
    for telling in history.told:
        if telling.key is not None:
            heard[telling.key].add(telling.alarm_id)
    on_board = {key for key, _ in history.standing.values()}
    lost, twice, untold, fallen, stuck = [], [], [], [], []
    excuses: set[str] = set()
    checked = 0
    for cause in history.causes:
        must = all(number in known and number not in missing for number in cause.raised_by)
        over = bool(cause.ended_by) and all(
            number in known and number not in missing for number in cause.ended_by
        )
        for key in cause.keys:
            ids = raised[key] | heard[key]
            excused = anew.get(cause.device, 0)
            if max(len(ids), raisings[key]) > 1 + excused + died.get(key, 0):
                twice.append(f"{key} was raised as {', '.join(sorted(ids))}")
            elif again[key] > excused:
                twice.append(f"{key} was raised again {again[key]} times without a cause")
            elif again[key] or max(len(ids), raisings[key]) > 1:
                excuses.add(cause.device)
            if not must or not cause.raised_by:
                continue
            checked += cause.certain
            if cause.certain and not ids:
                lost.append(f"{key} was never raised")
            elif ids and not heard[key]:
                untold.append(f"{key} was raised and no subscriber heard of it")
            by_people = bool(ids & set(history.ended_by_people))
            stands = not cause.ended_by or cause.stands_after_end
            if ids and stands and not by_people and key not in on_board:
                fallen.append(f"{key} does not stand although nobody ended it")
            # Begun again without its end, which has an id and is known: only where a killed broker repeats.
            if over and not excused and not cause.stands_after_end and key in on_board:
                stuck.append(f"{key} stands although its cause is over")
    return [
        Row("alarms lost", checked, [*lost, *fallen]),
        Row("alarms that nobody heard", checked, untold),
        Row(
            "alarms raised twice",
            sum(len(cause.keys) for cause in history.causes),
            twice,
            f"{len(excuses)} excused: a killed broker gave anew what nobody could know again, or a gateway was killed "
            "that could not store what it had told",
        ),
        Row("alarms that outlive their cause", len(history.causes), stuck),
        Row("versions that ran backwards", len(history.told), _backwards(history.told)),
    ]


def _backwards(told: Sequence[Telling]) -> list[str]:
    """A publication may be repeated, a receiver ignores it; after a newer one an older must not stay the last."""
    highest: dict[str, int] = {}
    last: dict[str, int] = {}
    for telling in told:
        if telling.key is None:
            highest.pop(telling.alarm_id, None)
        elif not telling.retained:
            highest[telling.alarm_id] = max(highest.get(telling.alarm_id, 0), telling.version)
            last[telling.alarm_id] = telling.version
    return [
        f"alarm {alarm_id} was told last as version {last[alarm_id]}, after {version}"
        for alarm_id, version in highest.items()
        if last[alarm_id] < version
    ]


def _orphans(history: History) -> Row:
    standing, retained = history.standing, history.retained
    bad = [
        f"{retained[id_][0]} ({id_}) is retained and does not stand"
        for id_ in retained
        if id_ not in standing
    ]
    bad += [
        f"{standing[id_][0]} ({id_}) stands and is not retained" for id_ in standing if id_ not in retained
    ]
    bad += [
        f"{key} ({id_}) is retained as version {retained[id_][1]} and stands as {version}"
        for id_, (key, version) in standing.items()
        if id_ in retained and retained[id_][1] != version
    ]
    return Row("retained alarms orphaned", len(standing.keys() | retained.keys()), bad)
