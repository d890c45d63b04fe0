"""What came of a story that was played in virtual time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rules.alarms import Severity
from simulators.scenario import Scenario
from simulators.seen_alarms import SeenAlarm
from simulators.telling import Event, Noted
from simulators.verdicts import Case


@dataclass(frozen=True, slots=True)
class Performance:
    """What came of a story."""

    scenario: Scenario
    events: tuple[Event, ...]
    """Everything that was told, in order."""
    cases: tuple[Case, ...]
    unexpected: tuple[SeenAlarm, ...]
    remarks: tuple[Noted, ...]
    """What was modelled, because virtual time has no such thing."""
    counts: Mapping[str, int]
    """Messages received, rejected, and known as repeats."""
    board: tuple[SeenAlarm, ...]
    took_s: float
    """Of the spectator's time."""
    beside: tuple[SeenAlarm, ...] = ()
    """Raised by rules that the story does not judge."""

    @property
    def passed(self) -> bool:
        """All that was expected came, nothing else did that must not."""
        return not self.unexpected and all(case.passed for case in self.cases)

    @property
    def standing(self) -> Sequence[SeenAlarm]:
        """The alarms that stand at the end, worst first."""
        return sorted(self.board, key=lambda alarm: (Severity(alarm.severity).rank, alarm.rule, alarm.device))
