"""What the command line cannot do, in Chinese: the sentences of its errors, which are made in English where they arise.

Here stands what a technician meets in normal work. What is not here stays in English: errors that only a programmer can
meet, and faults of configuration, registry and rule files, which are read beside those files (docs/configuration.md).
"""

import re
from collections.abc import Mapping
from functools import partial

from rules.language.texts import Language
from rules.wording import Phrases, withheld_line

ERRORS = Phrases.of(
    {
        # the gateway cannot be reached (edge.control_client)
        r"no gateway runs on (.+): start it with `anlin run`": "{1} 上没有运行网关：请用 `anlin run` 启动",
        r"(.+) belongs to another user: run this as the gateway's own user": "{1} 属于其他用户：请以网关的用户运行",
        r"the gateway on (.+) does not answer in time: see its log, or restart it": (
            "{1} 上的网关没有及时应答：请查看其日志，或重启网关"
        ),
        r"the gateway on (.+) speaks another version: restart it \((.+)\)": "{1} 上的网关版本不同：请重启网关（{2}）",
        r"the gateway on (.+) answers another question: restart it": "{1} 上的网关应答错乱：请重启网关",
        r"the gateway on (.+) has closed the connection: see its log": "{1} 上的网关断开了连接：请查看其日志",
        r"no gateway can be reached on (.+) \((.+)\): start it with `anlin run`": (
            "连接不上 {1} 上的网关（{2}）：请用 `anlin run` 启动"
        ),
        # what it refuses (edge.desks.desk, edge.desks.device_desk, edge.desks.rule_desk, edge.people)
        r"no alarm (.+) stands: `anlin alarms list` shows what does": (
            "当前没有告警 {1}：用 `anlin alarms list` 查看当前告警"
        ),
        r"alarm (.+) is still active: its condition must end first \(acknowledge it meanwhile\)": (
            "告警 {1} 尚未恢复：须先解除其条件（可先确认）"
        ),
        r"(\S+) would be unsafe now: (.+)": "现在执行 {1} 不安全：{2}",
        r"no device (.+); did you mean (.+)\?": "没有设备 {1}；是不是 {2}？",
        r"no device (.+)": "没有设备 {1}",
        r"by must be a name of 1 to (\d+) characters": "--by 须为 1 至 {1} 个字符的姓名",
        r"comment must have at most (\d+) characters": "--comment 最多 {1} 个字符",
        r"the store cannot be written: (.+)": "无法写入存储：{1}",
        r"(.+): nothing was done; see the gateway's log": "{1}：未做任何改变，请查看网关日志",
        r"other rules were applied meanwhile: look again and say it again": "其间启用了其他规则：请重新查看后再执行",
        r"the gateway is of another version: restart it, then apply the rules": "网关版本不同：请重启网关后再启用规则",
        r"the gateway cannot store its rules: see `anlin status`, then say it again": (
            "网关无法保存规则：请查看 `anlin status` 后再执行"
        ),
        # what is read from the journal: edge.shell.alarm_verbs, edge.store
        r"no alarm (.*) in the journal: see `anlin alarms list`": "记录中没有告警 {1}：用 `anlin alarms list` 查看",
        r"no order (.*) in the journal: see `anlin orders`": "记录中没有指令 {1}：用 `anlin orders` 查看",
        r"alarm (.+) was stored before alarms kept their reasons": "告警 {1} 保存时尚未记录原因",
        r"(.+): there is no journal here: start the gateway once, or name its data_dir": (
            "{1}：这里没有数据文件：请先启动一次网关，或指明其 data_dir"
        ),
        r"data directory (.+) cannot be written \((.+)\): set data_dir to a directory that the gateway's user owns": (
            "数据目录 {1} 无法写入（{2}）：请把 data_dir 设为网关用户所有的目录"
        ),
        r"data directory (.+) is in use by process (\d+): stop that gateway, or give this one a data_dir of its own": (
            "数据目录 {1} 正被进程 {2} 使用：请停止那个网关，或为本网关另设 data_dir"
        ),
        r"data directory (.+) is in use by (.+): stop that gateway, or give this one a data_dir of its own": (
            "数据目录 {1} 正被 {2} 使用：请停止那个网关，或为本网关另设 data_dir"
        ),
        r"the embedded broker cannot listen on (\S+) \((.+)\): end what uses the port, or choose another mqtt\.port": (
            "自带的 MQTT 服务器无法监听 {1}（{2}）：请停止占用该端口的程序，或改用其他 mqtt.port"
        ),
        # what a person orders: rules.instructions
        r"(.+): say KIND/DEVICE, e\.g\. (\S+)": "{1}：请写成 类型/设备，例如 {2}",
        r"there is no kind (\S+); did you mean (\S+)\?": "没有设备类型 {1}；是不是 {2}？",
        r"there is no kind (\S+)": "没有设备类型 {1}",
        r"(\S+) needs (.+): say (--arg \S+)": "{1} 缺少参数 {2}：请加 {3}",
        r"(\S+) obeys (.+), not (\S+); did you mean (\S+)\?": "{1} 没有指令 {3}；是不是 {4}？可用的有 {2}",
        r"(\S+) obeys (.+), not (\S+)": "{1} 没有指令 {3}；可用的有 {2}",
        r"(\S+) takes no argument, not (\S+)": "{1} 不带参数，没有参数 {2}",
        r"(\S+) takes (.+), not (\S+)": "{1} 没有参数 {3}；可用的有 {2}",
        r"(\S+) must be one line of 1 to (\d+) characters": "{1} 须为 1 至 {2} 个字符的一行文字",
        r"(\S+) must be a whole number from 1 to (\d+)": "{1} 须为 1 至 {2} 的整数",
    }
)
"""One sentence each."""

MESSAGES = Phrases.of(
    {
        r"no connection to the broker \((.+)\)": "未连接的会话：{1}",
        r"the (\S+) process is not running": "{1} 进程未运行",
        r"the (\S+) process has just been started again": "{1} 进程刚刚重新启动",
        r"(\d+) messages were not evaluated": "{1} 条消息未处理",
        r"(\d+) messages of cameras with too many tracks": "{1} 条消息来自跟踪目标过多的摄像头",
        r"the embedded broker keeps no session and delivers nothing again: a restart loses what is on its way": (
            "它不保存会话，也不会重发消息，重启会丢失途中的消息"
        ),
        r"the engine failed: (.+)": "引擎出错：{1}",
        r"decoding or the engine failed: (.+)": "解析或引擎出错：{1}",
        r"a delay has run out (\d+) s ago and is not taken": "有延时已到期 {1} 秒未处理",
        r"the broker refuses (.+)": "MQTT 服务器拒绝 {1}",
        r"(\d+) publications wait and the broker acknowledges none": "{1} 条发布在等待，MQTT 服务器一条也未确认",
        r"the time is not known: times are provisional, and nothing goes to the cloud store until it is": (
            "时间未知：所记时间待校正，在此之前不向云端发送"
        ),
        r"too many messages from (.+?)( and \d+ more)?": "消息过多：{1}{2}",
        r"readings are not stored: (.+)": "读数未保存：{1}",
        r"rules on disk are faulty and not in force: (.+) \(and (\d+) more: `anlin rules check` lists all\)": (
            "磁盘上的规则有错误，未启用：{1}（另有 {2} 处）"
        ),
        r"rules on disk are faulty and not in force: (.+)": "磁盘上的规则有错误，未启用：{1}",
    }
)
"""What the gateway says of itself, as far as it has no name or answer of another in it (`edge.condition`)."""


def told(error: object, language: str) -> str:
    """An error for people."""
    return ERRORS.say(str(error), language, partial(withheld_line, language=Language.ZH))


def message_of(reason: str, language: str) -> str:
    """What is wrong with the gateway, for people."""
    if language == Language.ZH and (differ := _DIFFER.fullmatch(reason)) is not None:
        named = _MORE.sub(r" 等，另有 \1 条", _CHANGED.sub(_change, differ[1]))
        return f"{named}；用 {differ[2]} 启用"
    return MESSAGES.say(reason, language)


_DIFFER = re.compile(r"rules on disk differ: (.+); apply with (.+)")
_MORE = re.compile(r" and (\d+) more")
_CHANGED = re.compile(r"(^|, )(new|changed|removed) (?!and \d)")
_CHANGES: Mapping[str, str] = {"new": "新增", "changed": "修改", "removed": "删除"}
"""What `edge.rulebook` tells of rules."""


def _change(found: re.Match[str]) -> str:
    return f"{'；' if found[1] else ''}{_CHANGES[found[2]]} "
