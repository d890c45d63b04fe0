"""The words of what the command line prints, in every language: a table, nothing else."""

from collections.abc import Mapping

from edge.health import Code
from edge.store.records import GapReason, OrderStatus
from rules.wording import RESULTS

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "no alarm": "no alarm stands",
        "gateway": "{site}/{node}: {status}, up {up}, {devices} devices ({online} online, {offline} offline, "
        "{unregistered} unregistered)",
        "reason": "{code}: {message}; {remedy}",
        "standing": "standing: {count}",
        "nothing": "nothing",
        "quiet": "… and {count} {state}: `anlin alarms list` shows them",
        "beyond": "… and {count} more: `anlin alarms list` shows them",
        "silent": "silent: {count}",
        "nobody": "nobody",
        "unheard": "never heard: {count} of the registry; check the device, the broker and that it says the site "
        "{site}; one that is not there yet has `mounted: false` in the registry",
        "rest": "… the rest: GET {path}",
        "lost": "lost within a day: {count}",
        "rules": "rules: {rules}, version {version}",
        "since": ", in force since {at}",
        "no cloud": "cloud: nothing is forwarded",
        "cloud": "cloud: {state}, rows behind: {rows}{error}",
        "error": "; {error}",
        "row": "{feed} {count}",
        "history": "history: {readings} readings of {days:.1f} days, {size:.1f} MB, {behind} behind {age} ago{error}",
        "d": "{n:.0f} d",
        "h": "{n:.0f} h",
        "min": "{n:.0f} min",
        "s": "{n:.0f} s",
        "acked already": "{by} acknowledged it already, at {at}: that stands",
        "yes": "yes",
        "no": "no",
        "times": ", {count} times",
        "no faults in rules": "no faults: {rules} rules in {files} files, {examples} examples",
        "no faults": "no faults: {devices} devices in {places} places, {rules} rules",
        "ordered": "ordered: {command} of {address} (order {id})",
        "no order": "no order was given",
        "by": "by {by}",
        "by alarm": "by alarm {alarm}",
        "by unknown": "by a person",
    },
    "zh": {
        "no alarm": "当前没有告警",
        "gateway": "{site}/{node}：{status}，已运行 {up}，{devices} 台设备"
        "（在线 {online}，离线 {offline}，未登记 {unregistered}）",
        "reason": "{what}（{code}）：{message}。{remedy}",
        "standing": "当前告警：{count}",
        "nothing": "无",
        "quiet": "…… 另有 {count} 条{state}：用 `anlin alarms list` 查看",
        "beyond": "…… 另有 {count} 条：用 `anlin alarms list` 查看",
        "silent": "无数据的设备：{count}",
        "nobody": "无",
        "unheard": "登记后从未收到数据：{count} 台。请检查设备、MQTT 服务器，以及设备所报的小区是否为 {site}；"
        "尚未安装的，在登记文件中写 `mounted: false`",
        "rest": "…… 其余见 GET {path}",
        "lost": "最近一天的数据缺失：{count} 次",
        "rules": "规则：{rules} 条，版本 {version}",
        "since": "，自 {at} 起运行",
        "no cloud": "云端：未设置转发",
        "cloud": "云端：{state}，待转发：{rows}{error}",
        "error": "；{error}",
        "row": "{feed} {count} 条",
        "history": "历史数据：{readings} 条读数，{days:.1f} 天，{size:.1f} MB，{age}前有 {behind} 条待整理{error}",
        "d": "{n:.0f} 天",
        "h": "{n:.0f} 小时",
        "min": "{n:.0f} 分钟",
        "s": "{n:.0f} 秒",
        "acked already": "{by} 已于 {at} 确认，以其为准",
        "yes": "是",
        "no": "否",
        "times": "，共 {count} 次",
        "no faults in rules": "没有错误：{files} 个文件，{rules} 条规则，{examples} 个示例",
        "no faults": "没有错误：{places} 处的 {devices} 台设备，{rules} 条规则",
        "ordered": "已下达：{address} {command}（指令 {id}）",
        "no order": "没有下达过指令",
        "by": "{by} 下达",
        "by alarm": "告警 {alarm} 下达",
        "by unknown": "由人下达",
    },
}

STATUSES: Mapping[str, str] = {"ok": "正常", "degraded": "部分功能异常", "failed": "未正常工作"}
"""Of the gateway, in Chinese."""

CLOUD: Mapping[str, str] = {
    "current": "已全部发送",
    "draining": "正在补传",
    "holding": "等待校时",
    "waiting": "等待重试",
    "fix_needed": "需要人工处理",
    "unknown": "未知",
    "readings": "读数",
    "alarms": "告警",
    "gaps": "缺失记录",
    "health": "状态",
}
"""How the cloud bridge does and what it sends, in Chinese."""

REASONS: Mapping[str, tuple[str, str]] = {
    Code.BROKER_AWAY: ("与 MQTT 服务器断开", "请启动它，或更正 mqtt.host、mqtt.port 和密码；在此之前告警发不出去"),
    Code.BROKER_DROPPED: ("MQTT 服务器丢弃了消息", "请按 deploy/mosquitto.conf 设置其上限；时间和数量见下方的数据缺失"),
    Code.BROKER_LIMITS: ("MQTT 服务器上限过小", "请按 deploy/mosquitto.conf 设置 max_inflight_messages"),
    Code.SESSION_LOST: ("MQTT 会话丢失", "请按 deploy/mosquitto.conf 打开持久化；起止时间见下方的数据缺失"),
    Code.CANNOT_DECIDE: ("无法判断", "请重启网关，并把日志交给维护人员"),
    Code.STORE_REDUCED: ("磁盘已满", "请清理 data_dir 所在的磁盘；在此之前只保存告警"),
    Code.STORE_DAMAGED: ("数据文件曾损坏", "请更换磁盘或存储卡；损坏的文件保留在新文件旁边"),
    Code.CANNOT_PUBLISH: ("无法发布", "请在 MQTT 服务器的访问控制列表中允许网关用户写入自己的前缀"),
    Code.CLOCK_UNTRUSTED: ("时间不可信", "请让网关连上时间服务器，或手动校时；之后会自动更正时间"),
    Code.DEVICE_THROTTLED: ("设备消息过多", "请检修或断开所列的设备；其他设备不受影响"),
    Code.STORE_FAILING: ("无法写入存储", "请清理 data_dir 所在的磁盘，并检查能否写入"),
    Code.WEB_DOWN: ("网页进程未运行", "请查看网关日志；告警不受影响"),
    Code.BRIDGE_DOWN: ("云端转发进程未运行", "请查看网关日志；数据保存在本地，稍后补传"),
    Code.CLOUD_AWAY: ("连接不上云端", "若是网络中断，无需处理：数据都保存在本地，稍后补传"),
    Code.CLOUD_REFUSES: ("云端拒绝数据", "请更正 cloud.url、cloud.org、cloud.bucket 或令牌；数据都保存在本地"),
    Code.HISTORY_FAILING: ("无法写入历史数据", "请查看原因和 data_dir/history；读数在有空间时保留在日志文件中"),
    Code.EMBEDDED_BROKER: ("使用自带的 MQTT 服务器", "它只供演示；小区请用 Mosquitto 和 deploy/mosquitto.conf"),
    Code.RULES_DIFFER: ("磁盘上的规则与运行的不同", "目前仍按正在运行的规则执行；`anlin rules check` 列出全部错误"),
    Code.TRACKS_REFUSED: ("电梯摄像头只开始不结束跟踪", "请查看该电梯的告警并关闭，检修摄像头"),
    Code.UNREGISTERED_LIMIT: ("未登记的设备过多", "请登记设备，或调高 unregistered_max"),
}  # fmt: skip
"""What is wrong and what to do, in Chinese; the English remedy comes from the gateway (`edge.health`)."""

LABELS: Mapping[str, tuple[str, str]] = {
    "id": ("id", "编号"),
    "key": ("key", "告警键"),
    "rule": ("rule", "规则"),
    "severity": ("severity", "级别"),
    "state": ("state", "状态"),
    "version": ("published", "发布次数"),
    "occurrences": ("occurrences", "发生次数"),
    "site": ("site", "小区"),
    "node": ("gateway", "网关"),
    "kind": ("kind", "设备类型"),
    "device": ("device", "设备"),
    "track": ("track", "跟踪目标"),
    "place": ("place", "位置"),
    "text": ("text", "内容"),
    "values": ("values", "数值"),
    "source_time": ("device's time", "设备时间"),
    "received_at": ("received", "收到时间"),
    "first_raised_at": ("first raised", "首次触发"),
    "raised_at": ("raised", "触发时间"),
    "cleared_at": ("over since", "恢复时间"),
    "acked_at": ("acknowledged", "确认时间"),
    "acked_by": ("acknowledged by", "确认人"),
    "comment": ("comment", "确认说明"),
    "cancelled_at": ("cancel pressed", "取消时间"),
    "late": ("told late", "迟报"),
    "drill": ("test", "测试"),
    "durable": ("stored", "已保存"),
    "provisional": ("time not known", "时间未校正"),
    "superseded": ("superseded", "规则变更"),
    "outcome": ("outcome", "结果"),
    "annunciated": ("told by itself", "单独通知"),
    "shelved_until": ("shelved until", "搁置至"),
    "suppressed_by": ("suppressed by", "抑制原因"),
    "folded_into": ("told together in", "并入告警"),
    "members": ("alarms in it", "包含的告警"),
    "chattering": ("comes and goes", "频繁反复"),
    "closed_at": ("closed", "关闭时间"),
    "closed_by": ("closed by", "关闭人"),
    "close_comment": ("closing comment", "关闭说明"),
}
"""Of an alarm on the wire, field by field: English and Chinese."""

ORDER_STATUSES: Mapping[OrderStatus, tuple[str, str]] = {
    OrderStatus.PENDING: ("not sent yet", "尚未发出"),
    OrderStatus.SENT: ("sent, no answer yet", "已发出，设备尚未答复"),
    OrderStatus.DONE: ("done", RESULTS["done"]),
    OrderStatus.REJECTED: ("rejected by the device", RESULTS["rejected"]),
    OrderStatus.FAILED: ("failed at the device", RESULTS["failed"]),
    OrderStatus.EXPIRED: ("never sent: its time ran out", "未发出：已过期"),
}
"""What has become of an order: English and Chinese."""

GAP_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "unknown": "an unknown number of",
        "safety": "safety messages",
        "bulk": "telemetry messages",
        "any": "messages",
        "readings": "readings",
        "alarms": "alarm changes",
    },
    "zh": {
        "unknown": "数量不明的",
        "safety": "条安全消息",
        "bulk": "条遥测消息",
        "any": "条消息",
        "readings": "条读数",
        "alarms": "条告警变化",
    },
}

GAP_REASONS: Mapping[str, Mapping[str, str]] = {
    "en": {
        GapReason.JOURNAL_FULL: "removed from the full journal before they were forwarded",
        GapReason.BROKER_DROPPED: "dropped by the broker for want of room",
        GapReason.SESSION_LOST: "the broker forgot the session that they waited in",
        GapReason.STORE_FAILED: "judged, but not stored: the store could not be written",
        GapReason.STORE_DAMAGED: "not readable in the damaged journal",
        GapReason.CLOUD_REFUSED: "refused by the cloud store for good; kept among the dead letters",
        GapReason.THROTTLED: "not taken: a device said more than it may",
    },
    "zh": {
        GapReason.JOURNAL_FULL: "本地数据已满，尚未转发就被删除",
        GapReason.BROKER_DROPPED: "MQTT 服务器空间不足而丢弃",
        GapReason.SESSION_LOST: "MQTT 服务器丢失了会话，其中等待的消息已丢失",
        GapReason.STORE_FAILED: "已判断但未保存：当时存储无法写入",
        GapReason.STORE_DAMAGED: "数据文件损坏，无法读出",
        GapReason.CLOUD_REFUSED: "被云端存储拒绝，保存在本地的死信中",
        GapReason.THROTTLED: "设备消息过多而未接收",
    },
}
