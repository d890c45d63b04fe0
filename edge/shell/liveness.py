"""Whether what the journal says is what is so now: a board without a running gateway looks as alive as one with it."""

from collections.abc import Mapping

import msgspec

from edge.control_client import ControlError, Health, request
from edge.error_words import message_of, told
from edge.health import Code
from edge.settings import Config
from edge.shell.reports import moment
from edge.shell.verbs import socket_of

ANSWER_S = 2.0
"""What the gateway may take to say how it is."""

_WORDS: Mapping[str, tuple[str, str]] = {
    "dead": ("this is how it was at {at}, not now: {why}", "以下是 {at} 的情况，不是现在的：{why}"),
    "deaf": (
        "the gateway does not hear its devices: {why}; what came since is not shown",
        "网关收不到设备的数据：{why}；此后的变化未显示",
    ),
}


def liveness_of(config: Config, as_of_ms: int) -> str | None:
    """What to say beside the board, as the journal has it at ``as_of_ms`` (Unix ms); None where it is as told."""
    chinese = config.language == "zh"
    try:
        answer = request(socket_of(config), "health", timeout_s=ANSWER_S)
        health = msgspec.json.decode(answer, type=Health)
    except (ControlError, msgspec.MsgspecError) as error:
        at = moment(as_of_ms or None, config.timezone)
        return _WORDS["dead"][chinese].format(at=at, why=told(error, config.language))
    for reason in health.reasons:
        if reason.code == Code.BROKER_AWAY:
            return _WORDS["deaf"][chinese].format(why=message_of(reason.message, config.language))
    return None
