"""Reading a timeline: each line is a time, a verb, and to whom it happens.

What a line says more than one cause for (``for`` here, ``times`` and ``apart`` in `simulators.repetition`) is written
out, so that whoever plays a story only goes from cause to cause. Every mistake goes into the entry it stands in.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from devices.faults import nearest
from devices.kinds import KINDS
from devices.kinds.traits import Kind
from devices.readings import Channel, Scalar
from rules.language.entries import Entry
from simulators.casting import WHO, Cast, Who, words
from simulators.causes import (
    Act,
    Cause,
    Handling,
    Load,
    Ordering,
    Outage,
    Person,
    Saying,
    Setting,
    Surrounding,
    Unsetting,
)
from simulators.device import Happening, Parameter
from simulators.fleet import MODELS
from simulators.line import LINE_FAULTS
from simulators.payloads import read_parameter, read_values
from simulators.repetition import CAUSES_LIMIT, written_out
from simulators.spans import number, span, whole

PHYSICS = ("fault", "action", "passenger", "power")
SAYINGS: Mapping[str, Channel] = MappingProxyType(
    {"telemetry": Channel.TELEMETRY, "event": Channel.EVENT, "status": Channel.STATUS}
)
VERBS = (
    *PHYSICS,
    "set",
    "unset",
    *SAYINGS,
    "raw",
    "command",
    *(person.value for person in Person),
    *(what.value for what in Surrounding),
    "load",
)
"""What a line of a timeline can be about; each line is about one of them."""

FLAPPING: Mapping[str, Parameter] = MappingProxyType(
    {"every": Parameter(20, 0.1, 86_400), "for": Parameter(120, 1, 7 * 86_400)}
)
"""The connection breaks and comes back, half of each turn away."""

_COMMON = frozenset({"at", "as", "note", "times", "every", "apart"})
_OUTAGES: Mapping[Surrounding, Sequence[str]] = MappingProxyType(
    {
        Surrounding.BROKER: ("restart", "away", "back"),
        Surrounding.CLOUD: ("away", "back"),
        Surrounding.GATEWAY: ("restart", "stop", "start"),
    }
)
_RESTART_S: Mapping[Surrounding, float] = MappingProxyType(
    {Surrounding.BROKER: 5.0, Surrounding.GATEWAY: 10.0}
)
_RETURNS = frozenset({"back", "start"})
_BY = "scenario"

_Parts = Iterator[tuple[float, Act, Who | None, bool]]
"""What a line says once: how much later, what, to whom, and whether nobody is told of it."""


def read_timeline(top: Entry, cast: Cast) -> list[Cause]:
    """What was so at the beginning and what happens then, in the order of time."""
    causes = [
        replace(cause, initial=True)
        for entry in top.entries("initial")
        for cause in _Line(entry, cast, initial=True).causes()
    ]
    for entry in top.entries("timeline"):
        causes += _Line(entry, cast).causes()
        if len(causes) > CAUSES_LIMIT:
            entry.fault(None, f"with it the story has more than {CAUSES_LIMIT} causes")
            break
    return sorted(causes, key=lambda cause: cause.at_s)


class _Line:
    """One line."""

    def __init__(self, entry: Entry, cast: Cast, *, initial: bool = False) -> None:
        self._entry = entry
        self._cast = cast
        self._initial = initial

    def causes(self) -> list[Cause]:
        """The causes that the line stands for; none where something is wrong with it."""
        entry = self._entry
        before = entry.faults_so_far
        said = [verb for verb in VERBS if verb in entry.fields]
        if len(said) != 1:
            # Without its verb, what belongs to it cannot be known: tell an unknown key first.
            entry.known({*self._common, *WHO, *VERBS} if not said else entry.fields, required=self._needed())
            entry.fault(None, f"says {len(said)} of {', '.join(VERBS)}; one is needed")
            return []
        verb = said[0]
        read = self._reader(verb)
        at_s = 0.0 if self._initial else span(entry, "at")
        parts = list(read(verb))
        if at_s is None or entry.faults_so_far > before:
            return []
        named = entry.text("as")
        note = entry.text("note") or ""
        first = [
            Cause(at_s + later_s, act, who.devices if who else (), who.label if who else "", quiet=quiet)
            for later_s, act, who, quiet in parts
        ]
        if first:
            first[0] = replace(first[0], label=named, note=note)
        return list(written_out(entry, first))

    def _needed(self) -> tuple[str, ...]:
        return () if self._initial else ("at",)

    @property
    def _common(self) -> frozenset[str]:
        return _COMMON - {"at"} if self._initial else _COMMON

    def _reader(self, verb: str) -> Callable[[str], _Parts]:
        if verb in PHYSICS:
            return self._physics
        if verb in SAYINGS:
            return self._saying
        if verb in set(Surrounding):
            return self._outage
        if verb in set(Person):
            return self._handling
        return {
            "set": self._set,
            "unset": self._unset,
            "raw": self._raw,
            "command": self._command,
            "load": self._load,
        }[verb]

    def _known(self, *keys: str, who: bool = True) -> None:
        entry = self._entry
        entry.known({*self._common, *keys, *(WHO if who else ())}, required=self._needed())

    # --- physics ------------------------------------------------------------------------------------------

    def _physics(self, verb: str) -> _Parts:
        entry = self._entry
        who = self._cast.who(entry, required=True)
        if who is None:
            self._known(*(key for key in entry.fields), who=True)
            self._happens_to_some_kind(verb)
            return
        if verb == "power":
            yield from self._power(who)
            return
        known = self._parameters(verb, who)
        name = entry.text(verb)
        if known is None or name is None:
            return
        own = "for" in known or "for" not in entry.fields
        self._known(verb, *known, *(() if own or verb != "fault" else ("for",)))
        given = {key: value for key in known if (value := read_parameter(entry, key, known[key])) is not None}
        if name == "flapping":
            yield from self._flapping(who, given)
            return
        yield 0.0, Happening(verb, name, MappingProxyType(given)), who, False
        if not own and verb == "fault" and (for_s := span(entry, "for")) is not None:
            yield for_s, Happening("fault", "none"), who, False

    def _happens_to_some_kind(self, verb: str) -> None:
        """Of what kind the devices are is not known; what happens to none is wrong all the same."""
        known = {name for model in MODELS.values() for name in model.happenings.get(verb, ())}
        if verb == "fault":
            known |= {*LINE_FAULTS, "flapping"}
        self._entry.word(verb, known)

    def _parameters(self, verb: str, who: Who) -> Mapping[str, Parameter] | None:
        """The parameters of what happens, which all the devices must have."""
        entry, name = self._entry, self._entry.text(verb)
        kinds = sorted({self._cast.kinds[device] for device in who.devices})
        found: Mapping[str, Parameter] | None = None
        for kind in kinds:
            happenings = MODELS[kind].happenings
            if verb not in happenings:
                entry.fault(verb, f"a {kind} has none; it has {', '.join(sorted(happenings))}")
                return None
            known = dict(happenings[verb])
            if verb == "fault":
                known |= {**LINE_FAULTS, "flapping": FLAPPING}
            if name is None or name not in known:
                reason = f"a {kind} has no such {verb}; it has {', '.join(sorted(known))}"
                entry.fault(verb, reason, value=name, nearest=nearest(name or "", known))
                return None
            if found is not None and known[name].keys() != found.keys():
                entry.fault(verb, f"means another thing for each of {', '.join(kinds)}", value=name)
                return None
            found = known[name]
        return found

    def _flapping(self, who: Who, given: Mapping[str, float]) -> _Parts:
        every_s = given.get("every", FLAPPING["every"].default)
        for_s = given.get("for", FLAPPING["for"].default)
        turns = max(1, math.floor(for_s / every_s))
        if turns > CAUSES_LIMIT:
            self._entry.fault("every", f"makes more than {CAUSES_LIMIT} turns")
            return
        yield (
            0.0,
            Happening("fault", "flapping", MappingProxyType({"every": every_s, "for": for_s})),
            who,
            False,
        )
        for turn in range(turns):
            gone = Happening("fault", "offline", MappingProxyType({"for": every_s / 2}))
            yield turn * every_s, gone, who, True

    def _power(self, who: Who) -> _Parts:
        entry = self._entry
        self._known("power", "for", "hub")
        name = entry.word("power", MODELS["charger"].happenings["power"].keys())
        hub, for_s = entry.truth("hub"), span(entry, "for")
        hit = tuple(one for one in who.devices if hub or MODELS[self._cast.kinds[one]].mains)
        if not hit:
            entry.fault(
                "power", "none of these devices lives on mains; with `hub: true` their radio hub does"
            )
        if name is None or not hit:
            return
        those = Who(hit, who.label)
        yield 0.0, Happening("power", name), those, False
        if for_s is not None:
            yield for_s, Happening("power", "back" if name == "cut" else "cut"), those, False

    # --- what is said -------------------------------------------------------------------------------------

    def _kind(self, who: Who, verb: str) -> Kind | None:
        kinds = sorted({self._cast.kinds[device] for device in who.devices})
        if len(kinds) == 1:
            return KINDS[kinds[0]]
        self._entry.fault(
            verb, f"names points of one kind, these are {', '.join(kinds)}; narrow it with `kind`"
        )
        return None

    def _set(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb, "for")
        who = self._cast.who(entry, required=True)
        kind = None if who is None else self._kind(who, verb)
        below = entry.entry(verb)
        if below is None and not entry.faults_so_far:
            entry.fault(verb, "needs points: {temperature: 70}")
        for_s = span(entry, "for")
        if kind is None or below is None:
            return
        points = read_values(below, kind.telemetry, absent=True)
        yield 0.0, Setting(MappingProxyType(points)), who, False
        if for_s is not None:
            yield for_s, Unsetting(tuple(points)), who, False

    def _unset(self, verb: str) -> _Parts:
        self._known(verb)
        who = self._cast.who(self._entry, required=True)
        kind = None if who is None else self._kind(who, verb)
        names = words(self._entry, verb)
        if kind is None:
            return
        if names == ("all",):
            yield 0.0, Unsetting(None), who, False
            return
        known = kind.telemetry.__struct_fields__
        for name in names:
            if name not in known:
                reason = f"{kind.name} has no such point"
                self._entry.fault(verb, reason, value=name, nearest=nearest(name, known))
        yield 0.0, Unsetting(names), who, False

    def _saying(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb)
        who = self._cast.who(entry, required=True)
        if who is None:
            return
        if verb == "status":
            state = entry.word(verb, ("online", "offline"))
            if state is not None:
                yield 0.0, Saying(Channel.STATUS, raw=state.encode()), who, False
            return
        kind, below = self._kind(who, verb), entry.entry(verb)
        if kind is None or below is None:
            return
        schema = kind.telemetry if verb == "telemetry" else kind.event
        if schema is None:
            entry.fault(verb, f"a {kind.name} sends none")
            return
        values = read_values(below, schema, beside=("id", "ts"))
        fields = {name: value for name, value in values.items() if value is not None}
        yield 0.0, Saying(SAYINGS[verb], MappingProxyType(fields)), who, False

    def _raw(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb, "channel")
        who = self._cast.who(entry, required=True)
        channel, text = entry.word("channel", SAYINGS.keys()), entry.text(verb)
        if who is not None:
            raw = (text or "").encode()
            yield 0.0, Saying(SAYINGS[channel or "telemetry"], raw=raw), who, False

    # --- people and surroundings --------------------------------------------------------------------------

    def _command(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb, "args", "by", "comment")
        who = self._cast.who(entry, required=True)
        kind = None if who is None else self._kind(who, verb)
        if kind is None:
            entry.word(verb, {name for each in KINDS.values() for name in each.commands})
            return
        name = entry.word(verb, kind.commands.keys())
        by, comment = entry.text("by") or "", entry.text("comment") or ""
        if comment and not by:
            entry.fault("comment", "is written down with who gives the command: needs by")
        below = entry.entry("args")
        if name is None:
            return
        args: dict[str, Scalar] = {}
        known = kind.commands[name].args
        if below is not None:
            below.known(known)
            for key, type_ in known.items():
                value: Scalar | None = below.text(key)
                if type_ is int:
                    value = whole(below, key, 0, 86_400)
                if value is not None:
                    args[key] = value
        yield 0.0, Ordering(name, MappingProxyType(args), by, comment), who, False

    def _handling(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb, "by", "comment")
        who = self._cast.who(entry)
        alarm = entry.text(verb)
        if alarm is not None:
            by, comment = entry.text("by") or _BY, entry.text("comment") or ""
            yield 0.0, Handling(Person(verb), alarm, by, comment), who, False

    def _outage(self, verb: str) -> _Parts:
        entry, of = self._entry, Surrounding(verb)
        self._known(verb, "for", *(("forgets",) if of is Surrounding.BROKER else ()), who=False)
        name, for_s = entry.word(verb, _OUTAGES[of]), span(entry, "for")
        forgets = of is Surrounding.BROKER and entry.truth("forgets")
        if name is None:
            return
        back = name in _RETURNS
        yield 0.0, Outage(of, back=back, forgets=forgets), None, False
        if name == "restart" and for_s is None:
            for_s = _RESTART_S[of]
        if for_s is not None and not back:
            yield for_s, Outage(of, back=True, forgets=forgets), None, False

    def _load(self, verb: str) -> _Parts:
        entry = self._entry
        self._known(verb, "for", who=False)
        for_s = span(entry, "for")
        if entry.text(verb) == "usual":
            yield 0.0, Load(None), None, False
            return
        rate = number(entry, verb, 0.001, 100_000, "/s")
        if rate is not None:
            yield 0.0, Load(rate), None, False
            if for_s is not None:
                yield for_s, Load(None), None, False
