"""Why an expectation was missed, in Chinese: the judge says it in English (`simulators.verdicts`)."""

from rules.language.texts import Language
from rules.wording import CHANGES, RESULTS, SEVERITIES, STATES, Phrases
from simulators.details import COMMANDS, chinese_moment

_PART = Phrases.of(
    {
        r"(\w+) of (\S+) by hand \(no order of the gateway\) at (.+)": "{2} 在 {3} 由人现场操作：{1}（不是网关的指令）",
        r"(\S+) of (.+) (\w+), before at (\S+(?: \S+)?)": "{1} / {2} 在 {4} {3}，早于所算的时间",
        r"(\S+) of (.+) (\w+), too late at (\S+(?: \S+)?)": "{1} / {2} 在 {4} {3}，太晚",
        r"(\S+) of (.+) (\w+) at (\S+(?: \S+)?), too early": "{1} / {2} 在 {4} {3}，太早",
        r"(\S+) of (.+) (\w+) at (\S+(?: \S+)?), (\d+) by now": "{1} / {2} 在 {4} {3}，至此共 {5} 次",
        r"(\S+) of (.+) (\w+) at (\S+(?: \S+)?)": "{1} / {2} 在 {4} {3}",
        r"(\w+) with severity (\w+) at (.+)": "在 {3} {1}，级别 {2}",
        r"(\w+) for the (\d+)\. time at (.+)": "在 {3} {1}，第 {2} 次",
        r"(\w+) (late|not late|as a drill|not as a drill) at (.+)": "在 {3} {1}，{2}",
        r"(\S+) of (.+) is (\w+), (\w+), (\d+)×": "{1} / {2} 为{3}，级别 {4}，{5} 次",
        r"(\d+) came": "出现 {1} 个",
        r"order (\w+) at (\S+(?: \S+)?), too early": "指令 {1} 在 {2} 下达，太早",
        r"order (\w+) at (\S+(?: \S+)?), (\d+) by now": "指令 {1} 在 {2} 下达，至此共 {3} 次",
        r"order (\w+) at (\S+(?: \S+)?)": "指令 {1} 在 {2} 下达",
        r"order (\w+), before at (\S+(?: \S+)?)": "指令 {1} 在 {2} 下达，早于所算的时间",
        r"order (\w+), too late at (\S+(?: \S+)?)": "指令 {1} 在 {2} 下达，太晚",
        r"(\w+): (done|rejected|failed|did not arrive) at (.+)": "指令 {1} 在 {3} {2}",
        r"nothing of it stands": "没有这样的告警",
    }
)
_WORDS = {
    **RESULTS,
    "did not arrive": "未送达",
    "late": "迟到",
    "not late": "非迟到",
    "as a drill": "测试",
    "not as a drill": "非测试",
}


def why_in(language: Language, why: str) -> str:
    """The same in the report's language."""
    if language is not Language.ZH:
        return why
    return "；".join(_PART.say(part, language, _called) for part in why.split("; "))


def _called(word: str) -> str:
    if (moment := chinese_moment(word)) is not None:
        return moment
    for table in (CHANGES, SEVERITIES, STATES, _WORDS, COMMANDS):
        if word in table:
            return table[word]
    return word
