"""What the demo shows: a live view in a terminal, one line an event elsewhere."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rules.language.texts import Language
from rules.wording import SEVERITIES, STATES, called
from simulators.telling import Event, Noted, describe
from simulators.verdicts import Change, Met, Missed, Unexpected

LINES = 10

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Anlin · demo of a community",
        "board": "Board",
        "messages": "messages/s",
        "received": "received",
        "devices": "devices",
        "online": "online",
        "offline": "offline",
        "unheard": "not heard yet",
        "behind": "cloud is behind by",
        "stored": "points stored",
        "standing": "Standing alarms",
        "none": "No alarms are standing",
        "events": "What happens",
        "age": "age",
        "starting": "starting …",
        "stop": "Ctrl-C ends it",
        "taken": "port {taken} is taken, using {used} for the {what}",
        "for_board": "board",
        "for_broker": "broker",
        "where": "the board is at {board}; the embedded broker on {broker} is for demos: it keeps nothing when it"
        " restarts",
        "by_hand": "ended by hand",
        "satisfied": "all alarms came as they should",
        "missed": "NOT all alarms came: see above",
        "undue": "ended before {count} of the expected alarms were due: nothing is wrong so far, but not all was"
        " seen; the whole story takes {seconds:.0f} s",
    },
    "zh": {
        "title": "安邻 · 社区演示",
        "board": "看板",
        "messages": "消息/秒",
        "received": "已接收",
        "devices": "设备",
        "online": "在线",
        "offline": "离线",
        "unheard": "尚未上报",
        "behind": "云端待上传",
        "stored": "已存数据点",
        "standing": "当前告警",
        "none": "当前没有告警",
        "events": "事件",
        "age": "持续",
        "starting": "正在启动……",
        "stop": "按 Ctrl-C 结束",
        "taken": "端口 {taken} 已被占用，{what}改用 {used}",
        "for_board": "看板",
        "for_broker": "MQTT 服务器",
        "where": "看板在 {board}；自带的 MQTT 服务器在 {broker}，仅供演示：重启后不保留任何数据",
        "by_hand": "已手动结束",
        "satisfied": "所有告警均符合预期",
        "missed": "并非所有告警都符合预期：见上",
        "undue": "结束时有 {count} 项预期尚未到期：目前没有异常，但没有演示完；完整演示需 {seconds:.0f} 秒",
    },
}

_COLOURS = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
}


class StandingAlarm(msgspec.Struct, frozen=True):
    """Of the contract's alarm, what a line shows."""

    severity: str
    state: str
    rule: str
    device: str
    text: dict[str, str]
    first_raised_at: str


class NodeHealth(msgspec.Struct, frozen=True):
    """Of the node's health, what the view shows."""

    status: str
    counts: dict[str, int]
    cloud: dict[str, object] | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    """The answer to `status` on the control socket."""

    health: NodeHealth
    standing: list[StandingAlarm]


@dataclass(slots=True)
class View:
    """What is known; `render` draws it, `line` tells an event where there is no terminal."""

    language: str
    board_url: str
    broker: str
    lines: deque[Text] = field(default_factory=lambda: deque(maxlen=LINES))
    status: NodeStatus | None = None
    rate: float = 0.0
    points: int = 0
    _last: tuple[float, int] | None = None

    def say(self, key: str, **values: object) -> str:
        """A sentence about the demo itself."""
        return _WORDS[self.language][key].format(**values)

    def tell(self, event: Event) -> str:
        """Take an event; the line that tells it."""
        line = describe(event, Language(self.language))
        style = ""
        match event:
            case Change():
                style = _COLOURS.get(event.alarm.severity, "")
            case Met():
                style = "green"
            case Missed() | Unexpected():
                style = "bold red"
            case Noted():
                style = "dim"
        self.lines.append(Text(line, style=style, no_wrap=True, overflow="ellipsis"))
        return line

    def update(self, status: NodeStatus, points: int) -> None:
        """Take the node's figures; the rate is since the last time."""
        now, received = time.monotonic(), status.health.counts.get("received", 0)
        if self._last is not None and now > self._last[0]:
            rate = (received - self._last[1]) / (now - self._last[0])
            self.rate = rate if not self.rate else 0.7 * self.rate + 0.3 * rate
        self._last = (now, received)
        self.status, self.points = status, points

    def render(self) -> RenderableType:
        """The whole picture."""
        words = _WORDS[self.language]
        head = Text.assemble(
            (f" {words['board']} {self.board_url}", "bold"), f"   MQTT {self.broker}   {words['stop']}"
        )
        return Group(
            Panel(Group(head, self._figures(words)), title=words["title"], border_style="blue"),
            Panel(
                self._standing(words),
                title=words["standing"],
                border_style="red" if self._alarms else "green",
            ),
            Panel(Group(*self.lines), title=words["events"], height=LINES + 2),
        )

    @property
    def _alarms(self) -> Sequence[StandingAlarm]:
        return self.status.standing if self.status is not None else ()

    def _figures(self, words: Mapping[str, str]) -> RenderableType:
        if self.status is None:
            return Text(f" {words['starting']}", style="dim")
        counts = self.status.health.counts
        behind = self.status.health.cloud.get("behind") if self.status.health.cloud else None
        waiting = sum(behind.values()) if isinstance(behind, dict) else 0
        grid = Table.grid(padding=(0, 3))
        grid.add_row(
            f" {self.rate:.1f} {words['messages']}",
            f"{counts.get('received', 0)} {words['received']}",
            f"{counts['devices']} {words['devices']}: {counts['online']} {words['online']}, "
            f"{counts['offline']} {words['offline']}",
            f"{words['behind']} {waiting}, {self.points} {words['stored']}",
        )
        return grid

    def _standing(self, words: Mapping[str, str]) -> RenderableType:
        if not self._alarms:
            return Text(words["none"], style="green")
        table = Table.grid(padding=(0, 2))
        for alarm in self._alarms[:12]:
            style = _COLOURS.get(alarm.severity, "")
            text = Text(alarm.text.get(self.language, alarm.rule), no_wrap=True, overflow="ellipsis")
            table.add_row(
                Text(f" {called(alarm.severity, SEVERITIES, self.language).upper()} ", style=style),
                called(alarm.state, STATES, self.language),
                _clock(alarm.first_raised_at),
                text,
            )
        return table


def _clock(moment: str) -> str:
    """RFC 3339 as the time of day where the viewer is."""
    return f"{datetime.fromisoformat(moment).astimezone():%H:%M:%S}"


def console() -> Console:
    """Where the demo speaks."""
    return Console()
