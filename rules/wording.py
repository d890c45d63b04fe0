"""What codes are called in each language, for everything that people read: a word is the same everywhere.

In English nearly every code is a word already. The board has these words in a table of its own
(edge/web/static/words.js), for a browser cannot read this one; a test holds the two together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rules.alarms import AlarmState, Outcome, Severity, Superseded
from rules.language.texts import Language

SEVERITIES: Mapping[str, str] = MappingProxyType(
    {
        Severity.CRITICAL: "紧急",
        Severity.HIGH: "重要",
        Severity.MEDIUM: "中等",
        Severity.LOW: "较低",
        Severity.INFO: "提示",
    }
)
"""In Chinese."""

STATES: Mapping[str, str] = MappingProxyType(
    {
        AlarmState.NORMAL: "已恢复",
        AlarmState.UNACKED: "未确认",
        AlarmState.ACKED: "已确认",
        AlarmState.RTN_UNACKED: "已恢复，待确认",
        AlarmState.LATCHED_UNACKED: "已恢复，锁定，待确认和复位",
        AlarmState.LATCHED_ACKED: "已恢复，锁定，待复位",
        AlarmState.SHELVED: "已搁置",
        AlarmState.SUPPRESSED: "已抑制",
        AlarmState.OUT_OF_SERVICE: "设备停用",
    }
)
"""In Chinese."""

_ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        AlarmState.NORMAL: "over",
        AlarmState.RTN_UNACKED: "over, not acknowledged",
        AlarmState.LATCHED_UNACKED: "over, held until acknowledged and reset",
        AlarmState.LATCHED_ACKED: "over, held until reset",
        AlarmState.OUT_OF_SERVICE: "device out of service",
    }
)
"""States whose code is no word that people use."""

CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "raised": "报警",
        "reraised": "再次报警",
        "cleared": "恢复",
        "acked": "已确认",
        "closed": "已关闭",
        "cancelled": "本人取消",
        "escalated": "升级",
        "changed": "变化",
        "corrected": "时间已校正",
    }
)
"""What happens to an alarm, in Chinese."""

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {Outcome.LEFT: "已离开", Outcome.FORCED: "强行乘梯", Outcome.RELEASED: "工作人员已放行"}
)
"""How an incident in a lift has ended, in Chinese."""

RESULTS: Mapping[str, str] = MappingProxyType(
    {"done": "已执行", "rejected": "设备拒绝执行", "failed": "设备执行失败"}
)
"""What a device has made of an order, in Chinese."""

LEVELS: Mapping[str, str] = MappingProxyType(
    {"building": "楼栋", "unit": "单元", "floor": "楼层", "room": "房间"}
)
"""Of a place, in Chinese."""

SUPERSEDED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            Superseded.CHANGED: "its rule has changed: a person closes it",
            Superseded.REMOVED: "its rule is gone: a person closes it",
        },
        "zh": {
            Superseded.CHANGED: "规则已修改，须由人关闭",
            Superseded.REMOVED: "规则已删除，须由人关闭",
        },
    }
)
"""What has become of the rule of an alarm, in each language."""


def state_called(state: str, language: str, *, closed: bool) -> str:
    """The state of an alarm, for people: what a person has ``closed`` is not said to be over by itself."""
    return called("closed", CHANGES, language) if closed else called(state, STATES, language)


def superseded_line(superseded: str, language: str) -> str:
    """What has become of the rule of an alarm, for people."""
    return SUPERSEDED[language].get(superseded, superseded)


_PLACES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "building": ("Building {}", "{}号楼"),
        "unit": ("unit {}", "{}单元"),
        "floor": ("floor {}", "{}层"),
        "room": ("room {}", "{}室"),
    }
)
_NUMBERED = re.compile(r"[0-9]+[A-Za-z]?").fullmatch
"""Other buildings have a name of their own."""


def called(code: str, table: Mapping[str, str], language: str) -> str:
    """A code of one of these tables, for people."""
    if language == Language.ZH:
        return table.get(code, code)
    return _ENGLISH.get(code, code) if code in table else code


def text_in(texts: Mapping[str, str], language: str) -> str:
    """The text of an alarm; in another language where it has none in this one."""
    return texts.get(language) or next(iter(texts.values()), "")


def place_line(place: Mapping[str, str], language: str) -> str:
    """Where it is, as the board says it; ``–`` where nobody knows."""
    chinese = language == Language.ZH
    parts = [
        value if level == "building" and not _NUMBERED(value) else forms[chinese].format(value)
        for level, forms in _PLACES.items()
        if (value := place.get(level))
    ]
    return (" " if chinese else ", ").join(parts) or "–"


@dataclass(frozen=True, slots=True)
class Phrases:
    """Sentences that are made in English, and how they read in Chinese.

    A pattern has a group for each part that is a name or a figure; what no pattern fits stays as it is.
    """

    pairs: Sequence[tuple[re.Pattern[str], str]]

    @classmethod
    def of(cls, pairs: Mapping[str, str]) -> "Phrases":
        """Patterns, each with its Chinese, in which ``{1}`` is the first group."""
        return cls([(re.compile(pattern, re.DOTALL), chinese) for pattern, chinese in pairs.items()])

    def say(self, sentence: str, language: str, part: Callable[[str], str] = str) -> str:
        """A sentence, for people; ``part`` says what a name in it is called in Chinese."""
        if language != Language.ZH:
            return sentence
        for pattern, chinese in self.pairs:
            if (found := pattern.fullmatch(sentence)) is not None:
                return chinese.format(sentence, *(part(each) if each else "" for each in found.groups()))
        return sentence


_MISMATCHES = Phrases.of(
    {
        r"(.+): (\w+) of (\S+) as (\w+) did not come at (\S+)": "{1}：{5} {3} 应有“{2}”（{4}），没有出现",
        r"(.+): (\w+) of (\S+) did not come at (\S+)": "{1}：{4} {3} 应有“{2}”，没有出现",
        r"(.+): (\w+) as (\w+) did not come at (\S+)": "{1}：{4} 应有“{2}”（{3}），没有出现",
        r"(.+): (\w+) did not come at (\S+)": "{1}：{3} 应有“{2}”，没有出现",
        r"(.+): (\w+) came at (\S+), unexpected": "{1}：{3} 出现“{2}”，不在预期中",
        r"(.+): there is no rule (\S+) to play it with": "{1}：没有规则 {2}，示例无法运行",
    }
)


def mismatch_line(mismatch: str, language: str) -> str:
    """What `rules.examples.run` has found wrong with an example, for people."""
    return _MISMATCHES.say(mismatch, language, lambda word: CHANGES.get(word) or STATES.get(word, word))


_WITHHELD = Phrases.of(
    {
        # to an alarm: rules.orders
        r"its (\S+) is unknown": "位置未登记（{1}）",
        r"no (\S+) is registered in the same (\S+)": "同一位置（{2}）未登记 {1}",
        r"(\d+) more (\S+) than the (\d+) that an action reaches": "超出一次联动上限 {3} 台，另有 {1} 台",
        r"staff let it ride": "工作人员已放行",
        # to a person: rules.instructions
        r"(\S+) stands, for which (\S+) was ordered": "告警 {1} 尚未结束，曾因它下达 {2}",
        # to both: the guards of devices.kinds
        r"fire_recall is true": "正在消防迫降",
        r"fire_recall is unknown": "消防迫降状态未知",
    }
)


def withheld_line(reason: str, language: str) -> str:
    """Why an order is not given, for people."""
    return _WITHHELD.say(reason, language, lambda word: LEVELS.get(word, word))
