"""What a line of the report says besides its verb: times, figures, readings, arguments and answers, in both languages.

A figure has its unit, a Chinese line no English word that people have to know. Identifiers that a story is free to
choose (a track, a session) stay as they are.
"""

import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from devices.readings import Scalar
from rules.language.entries import write_duration
from rules.language.texts import Language
from rules.wording import LEVELS, Phrases
from simulators.device import Parameter
from simulators.fleet import MODELS
from simulators.line import LINE_FAULTS
from simulators.spans import write_clock, write_moment

_ZH = Language.ZH
_COMMA = {Language.EN: ", ", _ZH: "，"}

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "cut_power": "切断电源", "restore_power": "恢复供电", "mute": "消音", "self_test": "自检",
        "confirm": "告知本人", "prompt": "询问本人", "hold_door": "保持开门", "release_door": "解除开门",
        "sound": "鸣响", "silence": "停止鸣响",
    }
)  # fmt: skip
"""In Chinese."""

_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "voltage": "V", "current": "A", "power": "W", "energy": "kWh", "temperature": "°C", "leakage": "mA",
        "density": "dB/m", "battery": "%",
    }
)  # fmt: skip
_POINTS: Mapping[str, str] = MappingProxyType(
    {
        "voltage": "电压", "current": "电流", "power": "功率", "energy": "电量", "temperature": "温度",
        "leakage": "漏电", "status": "状态", "error": "故障码", "session": "充电会话", "smoke": "烟雾",
        "density": "烟雾浓度", "battery": "电池电量", "battery_low": "电池电量低", "tamper": "被拆下", "test": "测试",
        "muted": "已消音", "fault": "故障", "contamination": "积尘", "end_of_life": "到使用年限",
        "linkquality": "信号质量", "worn": "佩戴", "activity": "活动次数", "door": "门", "floor": "楼层",
        "blocking": "门被挡住", "fire_recall": "消防迫降", "stream": "视频", "sounding": "鸣响", "action": "操作",
        "type": "类型", "track": "目标", "label": "识别为", "score": "置信度", "id": "消息号", "ts": "时间戳",
    }
)  # fmt: skip
_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "contamination": {"normal": "正常", "low": "轻度", "warning": "偏重", "critical": "严重"},
        "door": {"open": "开", "closed": "关"},
        "stream": {"ok": "正常", "lost": "无画面"},
        "type": {"new": "出现", "update": "更新", "end": "离开"},
        "action": {"emergency": "按下紧急求助", "cancel": "取消", "test": "测试", "check_in": "报平安"},
        "label": {
            "ebike": "电动自行车", "bicycle": "自行车", "stroller": "婴儿车", "wheelchair": "轮椅", "person": "乘客",
        },
        "status": {
            "Available": "空闲", "Preparing": "准备中", "Charging": "充电中", "SuspendedEVSE": "设备暂停充电",
            "SuspendedEV": "车辆暂停充电", "Finishing": "结束中", "Reserved": "已预约", "Unavailable": "不可用",
            "Faulted": "故障",
        },
    }
)  # fmt: skip
_PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "rate": "速率", "limit": "上限", "after": "推迟", "voltage": "电压", "current": "电流", "watts": "功率",
        "needs": "需充电量", "stays": "充满后停留", "growth": "发展时间", "percent": "剩余", "level": "等级",
        "stay": "停留", "force": "强制关门前", "score": "置信度", "by": "相差", "share": "比例", "copies": "份数",
        "apart": "间隔", "for": "持续", "every": "每隔",
        "tone": "音调", "text": "内容", "seconds": "持续",
    }
)  # fmt: skip

_WHERE: Mapping[str, str] = MappingProxyType(
    {
        "kind": "类型", **LEVELS, "group": "分组", "household": "住户",
    }
)  # fmt: skip

_ANSWERS = Phrases.of(
    {
        r"the person was asked": "已询问本人",
        r"the person was told": "已告知本人",
        r"already so": "已是该状态",
        r"the relay is welded, power still flows": "继电器粘连，仍在供电",
        r"the chamber does not answer": "感烟室无响应",
        r"the amplifier is broken": "功放损坏",
        r"still (\S+) °C, below (\S+) first": "仍为 {1} °C，须先降至 {2} °C 以下",
        r"fire recall": "消防迫降",
        r"expires_at is no time": "有效期无法识别",
        r"expired ([\d.]+) s ago": "{1}秒前已过期",
        r"a (\w+) knows no command (.+)": "该设备没有指令 {2}",
        r"(\w+) takes no (.+)": "指令不带参数 {2}",
        r"(\w+) must be (\w+)": "参数 {1} 类型不对",
        r"(\w+) is not within 0 and (.+)": "参数 {1} 超出 0 至 {2}",
    }
)
_MOMENT = re.compile(r"(-?)(?:(\d+)d )?(\d+):(\d\d):(\d\d(?:\.\d)?)|(-?)([\d.]+) s")
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


def moment(seconds: float, language: Language) -> str:
    """A time of a story: ``20.5 s``, ``0:12:15``; in Chinese ``20.5秒``, ``12分15秒``, ``1天2时``."""
    return _in_chinese(seconds) if language is _ZH else write_moment(seconds)


def length(seconds: float, language: Language) -> str:
    """How long a story lasts."""
    return _in_chinese(seconds) if language is _ZH else write_clock(seconds)


def chinese_moment(text: str) -> str | None:
    """What `simulators.spans.write_moment` has written, in Chinese; None for anything else."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    if found[7] is not None:
        return _in_chinese(float(found[6] + found[7]))
    days, hours, minutes = (int(part or 0) for part in found.group(2, 3, 4))
    seconds = days * _DAY_S + hours * _HOUR_S + minutes * _MINUTE_S + float(found[5])
    return _in_chinese(-seconds if found[1] else seconds)


def _in_chinese(seconds: float) -> str:
    tenths = round(seconds * 10)
    whole, tenth = divmod(abs(tenths), 10)
    days, rest = divmod(whole, _DAY_S)
    parts = [(days, "天"), (rest // _HOUR_S, "时"), (rest % _HOUR_S // _MINUTE_S, "分")]
    told = "".join(f"{number}{unit}" for number, unit in parts if number)
    last = f"{rest % _MINUTE_S}" + (f".{tenth}" if tenth else "")
    told += f"{last}秒" if last != "0" or not told else ""
    return f"-{told}" if tenths < 0 else told


def whose(label: str, language: Language) -> str:
    """Devices as a file names them: by their names, or by their kind and place."""
    if language is not _ZH:
        return label
    words = (part.split(" ", 1) for part in label.split(", "))
    return "、".join(" ".join((_WHERE.get(first, first), *rest)) for first, *rest in words)


def parameters(verb: str, name: str, given: Mapping[str, float], language: Language) -> str:
    """The figures of what happens, each behind a comma; what is endless is not said."""
    known = _known(verb, name)
    told = (
        f"{_PARAMETERS.get(key, key) if language is _ZH else key} {_figure(value, known.get(key), language)}"
        for key, value in given.items()
        if not math.isinf(value)
    )
    return "".join(f"{_COMMA[language]}{one}" for one in told)


def _known(verb: str, name: str) -> Mapping[str, Parameter]:
    if verb == "fault" and name in LINE_FAULTS:
        return LINE_FAULTS[name]
    kinds = (model.happenings.get(verb, {}) for model in MODELS.values())
    return next((kind[name] for kind in kinds if name in kind), {})


def _figure(value: float, known: Parameter | None, language: Language) -> str:
    match known.unit if known is not None else "s":
        case "s":
            if language is _ZH:
                return _in_chinese(value)
            return f"{'-' if value < 0 else ''}{write_duration(round(abs(value) * 1_000))}"
        case "share":
            return f"{value:.0%}"
        case unit:
            return f"{value:g}{'' if unit == '%' else ' '}{unit}".rstrip()


def readings(points: Mapping[str, Scalar | None], language: Language) -> str:
    """Points and what they read."""
    return _COMMA[language].join(_readings(points, language))


def _readings(points: Mapping[str, Scalar | None], language: Language) -> Iterator[str]:
    for name, value in points.items():
        told = _value(name, value, language)
        if value is not None and not isinstance(value, bool | str) and name in _UNITS:
            told += f"{'' if _UNITS[name] == '%' else ' '}{_UNITS[name]}"
        yield f"{point(name, language)} {told}"


def point(name: str, language: Language) -> str:
    """A point's name."""
    return _POINTS.get(name, name) if language is _ZH else name


def _value(name: str, value: Scalar | None, language: Language) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return ("是" if value else "否") if language is _ZH else str(value).lower()
        case float():
            return f"{value:.10g}"
        case _:
            return _VALUES.get(name, {}).get(str(value), str(value)) if language is _ZH else str(value)


def command(name: str, language: Language) -> str:
    """An order's name."""
    return COMMANDS.get(name, name) if language is _ZH else name


def arguments(args: Mapping[str, Scalar], language: Language) -> str:
    """What an order says besides, but for what is spoken to people."""
    told = [
        f"{_PARAMETERS.get(key, key) if language is _ZH else key} "
        f"{moment(value, language) if key == 'seconds' and isinstance(value, int | float) else value}"
        for key, value in args.items()
        if key != "prompt"
    ]
    return _COMMA[language].join(told)


def answer(detail: str, language: Language) -> str:
    """What a device says about an order."""
    return _ANSWERS.say(detail, language)
