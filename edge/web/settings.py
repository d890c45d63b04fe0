"""What the web process is told by its parent, as one JSON object on its command line. No secrets in it."""

import ipaddress
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec


class SettingsError(ValueError):
    """The web process cannot run with these settings; the text says what to change."""


class WebSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the gateway's data is and where to serve it."""

    data_dir: str
    site: str
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    """0 takes a free one; the log names it."""
    language: Literal["zh", "en"] = "zh"
    """Of the board, until a viewer chooses."""
    heartbeat_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    listeners_max: Annotated[int, msgspec.Meta(ge=1)] = 100
    """Streams at a time; one more is refused."""
    drop_after_s: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    """A client that takes nothing for so long is dropped."""

    history_idle_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """The helper that answers about the history is let go when nobody has asked for so long."""

    def command(self) -> Sequence[str]:
        """What starts the process. Its standard input must be a pipe: the process ends when that does."""
        return (sys.executable, "-m", "edge.web.process", msgspec.json.encode(self).decode())

    @classmethod
    def parse(cls, text: str) -> "WebSettings":
        """Read the object that `command` wrote.

        Raises:
            SettingsError: it is malformed, or the host is not loopback.
        """
        try:
            settings = msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise SettingsError(f"settings of the web process: {error}") from error
        if not is_loopback(settings.host):
            raise SettingsError(
                f"http.host is {settings.host!r}: without users and passwords only loopback is served; "
                "set it to 127.0.0.1 (from elsewhere, use an SSH tunnel)"
            )
        return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
