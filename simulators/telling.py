"""What a performance tells, and how it reads in English and Chinese: one line an event.

The lines are for people who were not there: a fire inspector, a property's manager. Nothing is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from devices.readings import Channel
from rules.language.texts import Language
from rules.wording import CHANGES, RESULTS, SEVERITIES, STATES
from simulators import causes, details
from simulators.device import Happening
from simulators.differences import difference
from simulators.expectations import Expectation, Subject
from simulators.phrases import why_in
from simulators.spans import Bounds, write_moment
from simulators.verdicts import Change, Met, Missed, Ordered, Verdict

EN, ZH = Language.EN, Language.ZH
NAMES_MOST = 3
"""Devices that are named one by one."""


@dataclass(frozen=True, slots=True)
class Began:
    """The devices are connected and their time has begun."""

    at_s: float
    online: int
    devices: int


@dataclass(frozen=True, slots=True)
class Happened:
    """Something of the timeline was done."""

    at_s: float
    cause: causes.Cause


@dataclass(frozen=True, slots=True)
class Noted:
    """A line about the performance itself."""

    at_s: float
    text: str
    zh: str = ""

    def said(self, language: Language) -> str:
        """In one language; English where nothing else is there."""
        return self.zh if language is ZH and self.zh else self.text


Event = Began | Happened | Noted | Verdict
"""What a performance tells."""

_ZH: Mapping[str, str] = MappingProxyType(
    {
        # verbs
        "fault": "故障", "action": "操作", "passenger": "乘梯", "power": "供电",
        # faults, actions
        "silent": "无消息", "offline": "断线", "flood": "消息泛滥", "none": "恢复正常", "flapping": "时断时续",
        "clock": "时钟偏差", "duplicate": "消息重复", "reorder": "消息乱序", "delay": "消息延迟",
        "corrupt": "报文损坏", "lossy": "丢包", "overheat": "接触不良发热", "runaway": "电池热失控",
        "failing_battery": "电池逐渐失效", "no_taper": "充不满", "over_voltage": "过压", "under_voltage": "欠压",
        "broken": "损坏", "leakage": "漏电", "welded": "继电器粘连", "smouldering": "阴燃", "flaming": "明火",
        "burnt_toast": "烤焦面包", "battery": "电池电量", "contaminated": "积尘", "tampered": "被拆下",
        "worn_out": "到使用年限", "not_worn": "未佩戴", "motionless": "无活动", "fall": "跌倒", "untested": "不再测试",
        "stream_lost": "无画面", "fire_recall": "消防迫降", "propped": "门被挡住", "plug": "插上", "unplug": "拔下",
        "test": "测试", "mute": "消音", "emergency": "按下紧急求助", "cancel": "取消", "check_in": "报平安",
        "ebike": "电动自行车", "bicycle": "自行车", "stroller": "婴儿车", "wheelchair": "轮椅", "person": "乘客",
        "cut": "停电", "back": "来电",
        # changes
        **CHANGES, "given": "下达",
        # states
        **STATES, "standing": "仍在", "absent": "不在",
        # results, severities
        **RESULTS, **SEVERITIES,
    }
)  # fmt: skip

_CHANNELS = {
    Channel.TELEMETRY: "遥测",
    Channel.EVENT: "事件",
    Channel.STATUS: "在线状态",
}


def word(name: str, language: Language) -> str:
    """A word of the language of scenarios, for people."""
    return _ZH.get(name, name) if language is ZH else name


def describe(event: Event, language: Language = EN) -> str:
    """One line for a person."""
    zh = language is ZH
    match event:
        case Began():
            what = f"{event.online} of {event.devices} devices are connected"
            if zh:
                what = f"{event.devices} 台设备中 {event.online} 台已连接"
        case Happened():
            what = f"{'发生' if zh else 'happens  '} {cause_line(event.cause, language)}"
        case Noted():
            what = event.said(language)
        case Change():
            what = change_line(event, language)
        case Ordered():
            what = order_line(event, language)
        case Met():
            told = expectation_line(event.expectation, language)
            what = (
                f"符合预期：{told}（{details.moment(event.took_s, ZH)}后）"
                if zh
                else (f"as it should: {told} (after {event.took_s:.1f} s)")
            )
        case Missed():
            told = expectation_line(event.expectation, language)
            why = f" – {why_in(language, event.why)}" if event.why else ""
            what = f"{'不符合预期：' if zh else 'MISSED: '}{told}{why}"
        case _:
            alarm = event.alarm
            what = (
                f"{'意外报警：' if zh else 'UNEXPECTED: '}{alarm.rule} {'/' if zh else 'of'} {alarm.device}"
            )
    return f"{event.at_s:6.1f} s  {what.rstrip()}"


def not_due(ended_s: float, one: Expectation) -> Noted:
    """The performance ended before an expectation was due, so that nothing can be said of it."""
    return Noted(
        ended_s,
        f"ended before it was due: {expectation_line(one, EN)}",
        f"结束时尚未到期：{expectation_line(one, ZH)}",
    )


def change_line(event: Change, language: Language) -> str:
    """What happened to an alarm."""
    alarm, text = event.alarm, event.alarm.text.get(str(language), "")
    change = word(event.change, language)
    what = difference(event.before, alarm, language) if event.change == "changed" else ""
    if language is ZH:
        also = f"［{what}］" if what else ""
        state = word(alarm.state, ZH)
        return f"{change} {alarm.rule} / {alarm.device}（{word(alarm.severity, ZH)}，{state}）{also}{text}"
    also = f"[{what}] " if what else ""
    return f"{change:<9} {alarm.rule} of {alarm.device} ({alarm.severity}, {alarm.state}) {also}{text}"


def order_line(event: Ordered, language: Language) -> str:
    """An order and its result."""
    told = f"{details.command(event.command, language)} {details.arguments(event.args, language)}".strip()
    if language is ZH:
        result = word(event.result, ZH) if event.result else "未送达，设备不在线"
        result += f"，{details.answer(event.detail, ZH)}" if event.detail else ""
        return f"指令 {event.device}：{told}（{result}）"
    result = event.result or "not delivered, the device is not online"
    return f"order     {event.device}: {told} ({result}{', ' + event.detail if event.detail else ''})"


# --- causes -------------------------------------------------------------------------------------------------


def cause_line(cause: causes.Cause, language: Language) -> str:
    """What happens, and to whom."""
    zh = language is ZH
    about = _about(cause, language)
    what = _act(cause.act, language)
    line = f"{about}{'：' if zh else ': '}{what}" if about else what
    return f"{line}{'（' + cause.note + '）' if zh else ' (' + cause.note + ')'}" if cause.note else line


def _about(cause: causes.Cause, language: Language) -> str:
    names = cause.devices
    if not names:
        return ""
    if len(names) <= NAMES_MOST:
        return details.whose(", ".join(names), language)
    return (
        f"{details.whose(cause.who, ZH)}（{len(names)} 台设备）"
        if language is ZH
        else f"{cause.who} ({len(names)} devices)"
    )


def _act(act: causes.Act, language: Language) -> str:
    zh = language is ZH
    match act:
        case Happening():
            given = details.parameters(act.verb, act.name, act.parameters, language)
            if zh:
                alone = act.verb == "power" or act.name == "none"
                return f"{'' if alone else word(act.verb, ZH) + ' '}{word(act.name, ZH)}{given}"
            return f"{act.verb} {act.name}{given}"
        case causes.Setting():
            return f"{'读数变为' if zh else 'reads'} {details.readings(act.points, language)}"
        case causes.Unsetting():
            names = "全部读数" if zh else "all points"
            if act.names is not None:
                names = ("、" if zh else ", ").join(details.point(name, language) for name in act.names)
            return f"{names} {'恢复实测' if zh else 'as measured again'}"
        case causes.Saying():
            told = (
                details.readings(act.fields, language)
                if act.raw is None
                else repr(act.raw.decode(errors="replace"))
            )
            channel = act.channel.name.lower()
            return f"{'发送' + _CHANNELS[act.channel] if zh else 'says ' + channel} {told}"
        case _:
            return _around(act, language)


def _around(act: causes.Ordering | causes.Handling | causes.Outage | causes.Load, language: Language) -> str:
    zh = language is ZH
    match act:
        case causes.Ordering():
            what = details.command(act.command, language)
            if act.by:
                return f"{act.by} {'下令' if zh else 'orders'} {what}"
            return f"{'人工指令' if zh else 'a person orders'} {what}"
        case causes.Handling():
            does = {
                causes.Person.ACKNOWLEDGE: ("acknowledges", "确认"),
                causes.Person.CLOSE: ("closes", "关闭"),
            }[act.does]
            return f"{act.by} {does[1] if zh else does[0]} {act.alarm}"
        case causes.Outage():
            return _outage(act, language)
        case causes.Load():
            if act.rate is None:
                return "消息量恢复正常" if zh else "load as usual again"
            return f"全部设备每秒 {act.rate:g} 条消息" if zh else f"load of {act.rate:g} messages/s"


def _outage(act: causes.Outage, language: Language) -> str:
    names = {
        causes.Surrounding.BROKER: ("the broker", "MQTT 服务器"),
        causes.Surrounding.CLOUD: ("the cloud store", "云端存储"),
        causes.Surrounding.GATEWAY: ("the gateway", "网关"),
    }[act.of]
    if language is ZH:
        return f"{names[1]}{'恢复' if act.back else '中断'}{'，会话丢失' if act.forgets and act.back else ''}"
    what = "is back" if act.back else "goes away"
    return f"{names[0]} {what}{', its sessions are lost' if act.forgets and act.back else ''}"


# --- expectations -------------------------------------------------------------------------------------------


def expectation_line(one: Expectation, language: Language) -> str:
    """What must come, or must not, by when."""
    return str(one) + _also(one) if language is EN else _in_chinese(one)


def _also(one: Expectation) -> str:
    told = []
    if one.severity is not None:
        told.append(f"severity {one.severity}")
    if one.occurrences is not None:
        told.append(f"occurrences {one.occurrences}")
    if one.late is not None:
        told.append("late" if one.late else "not late")
    if one.earliest_s is not None:
        told.append(f"not before {write_moment(one.earliest_s)}")
    return f" [{', '.join(told)}]" if told else ""


def _in_chinese(one: Expectation) -> str:
    name = f"指令 {details.command(one.alarm, ZH)}" if one.subject is Subject.ORDER else one.alarm
    what = f"{name} / {details.whose(one.device, ZH)}" if one.device else name
    told = word(one.change, ZH)
    if one.forbidden:
        return f"不得出现：{what} {told}"
    if one.subject is Subject.STATE:
        return f"{what} 在 {details.moment(one.until_s, ZH)} 时{told}"
    also = []
    if one.count != Bounds(1):
        also.append(f"数量 {one.count}")
    if one.severity is not None:
        also.append(f"级别 {word(one.severity, ZH)}")
    if one.occurrences is not None:
        also.append(f"次数 {one.occurrences}")
    if one.late is not None:
        also.append("迟到" if one.late else "非迟到")
    if one.earliest_s is not None:
        also.append(f"不早于 {details.moment(one.earliest_s, ZH)}")
    return (
        f"{what} 在 {details.moment(one.until_s, ZH)} 前{told}{'（' + '，'.join(also) + '）' if also else ''}"
    )
