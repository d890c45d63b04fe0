"""What can be configured: every key with its type, bounds, default and meaning (contract, section 6).

Values only; `edge.config` reads them from the file and the environment. Secrets stay in files of their own
and are read when they are used, so that no configuration that is shown or logged holds one.
"""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from devices.faults import ConfigurationError, Fault
from devices.topics import LEVEL
from edge.web.settings import is_loopback

SECRET_LIMIT = 16 * 1024
"""Bytes; no password or token is that long."""

_SIZE = re.compile(r"(\d{1,15})\s*([kMGT]?i?B?)\Z", re.IGNORECASE)
_LEAST_BYTES, _MOST_BYTES = 16 * 10**6, 10**14
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _level(text: str) -> str:
    if not LEVEL.match(text):
        raise ValueError("must be 1 to 64 of A–Z a–z 0–9 _ . -")
    return text


def _levels(text: str) -> str:
    if not all(LEVEL.match(level) for level in text.split("/")):
        raise ValueError("must be topic levels of A–Z a–z 0–9 _ . -, with / between them and at neither end")
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _anchored(path: Path, info: ValidationInfo) -> Path:
    """Relative to the file that names it, wherever the command is typed."""
    if str(path).startswith("~"):
        raise ValueError("~ is not expanded; write the path out")
    base = info.context.get("base") if info.context is not None else None
    return base / path if isinstance(base, Path) else path


def _size(written: object) -> object:
    """Bytes of ``500MB`` (decimal) or ``2GiB`` (binary)."""
    if not isinstance(written, str):
        return written
    found = _SIZE.match(written.strip())
    if found is None:
        raise ValueError("must be a size such as 500MB or 2GB")
    number, unit = found[1], found[2].lower().removesuffix("b")
    size = int(number) * (1024 if unit.endswith("i") else 1000) ** _POWERS[unit.removesuffix("i")]
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise ValueError("must be from 16MB to 100TB")
    return size


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("must be a time zone that this machine knows, such as Asia/Shanghai") from error
    return name


def _day(written: object) -> object:
    if not isinstance(written, str):
        return written
    try:
        return date.fromisoformat(written)
    except ValueError as error:
        raise ValueError("must be a day such as 2027-01-01") from error


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
        url = urlsplit("")
    if not good:
        raise ValueError("must be an address such as https://store.example:8086")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("must be the bare address; the token belongs into token_file")
    return text.rstrip("/")


def _loopback(host: str) -> str:
    if not is_loopback(host):
        raise ValueError(
            "must be loopback (127.0.0.1): there are no users and passwords yet, whoever reaches the board "
            "could act on alarms; from elsewhere use an SSH tunnel"
        )
    return host


def _section(written: object) -> object:
    """A section with nothing in it is one of defaults."""
    return {} if written is None else written


_Level = Annotated[str, AfterValidator(_level)]
_Filled = Annotated[str, Field(max_length=256), AfterValidator(_filled)]
_File = Annotated[Path, BeforeValidator(lambda text: _filled(text) if isinstance(text, str) else text),
                  AfterValidator(_anchored)]  # fmt: skip
_Port = Annotated[int, Field(ge=1, le=65_535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


class Tls(_Section):
    """TLS towards the broker: on as soon as one of the files is named."""

    ca: _File | None = Field(
        default=None, description="authorities that may sign the broker's certificate (PEM)"
    )
    cert: _File | None = Field(
        default=None, description="our own certificate (PEM), where the broker asks for one"
    )
    key: _File | None = Field(default=None, description="the key of `cert` (PEM, without a passphrase)")

    @property
    def on(self) -> bool:
        """Whether the connection is encrypted."""
        return (self.ca or self.cert or self.key) is not None


class Mqtt(_Section):
    """The broker."""

    host: _Filled = Field(default="127.0.0.1", description="name or address of the broker")
    port: _Port = Field(default=1883, description="its port; with TLS usually 8883")
    protocol: Literal["5", "3.1.1"] = Field(
        default="5", description="MQTT version; the embedded broker speaks 3.1.1"
    )
    username: _Filled | None = Field(default=None, description="as whom to connect")
    password_file: _File | None = Field(default=None, description="file with the password, alone in one line")
    tls: Annotated[Tls, BeforeValidator(_section)] = Field(default=Tls(), description="encryption")
    prefix: Annotated[str, Field(max_length=256), AfterValidator(_levels)] = Field(
        default="community", description="first level or levels of every topic"
    )
    embedded: bool = Field(
        default=False, description="start the broker that comes with Anlin; for demo and development only"
    )

    @property
    def spoken(self) -> Literal["5", "3.1.1"]:
        """The MQTT version in use: the embedded broker knows but one."""
        return "3.1.1" if self.embedded else self.protocol

    def password(self) -> str | None:
        """Read the password. Raises `ConfigurationError`."""
        return read_secret(self.password_file) if self.password_file is not None else None


class Store(_Section):
    """The journal on disk."""

    journal_max_bytes: Annotated[int, Field(ge=_LEAST_BYTES, le=_MOST_BYTES), BeforeValidator(_size)] = Field(
        default=2 * 10**9,
        description="how large the database may grow (500MB, 2GB, 1GiB); the oldest readings go first",
    )
    commit_ms: Annotated[int, Field(ge=1, le=5_000)] = Field(
        default=250, description="longest wait before readings are committed; alarms and events never wait"
    )


class Cloud(_Section):
    """The store far away."""

    url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None,
        description="address of the InfluxDB v2 API; null: nothing is forwarded, all is kept here",
    )
    org: _Filled = Field(default="anlin", description="organisation in the store")
    bucket: _Filled = Field(default="community", description="bucket in the store")
    token_file: _File | None = Field(default=None, description="file with the API token, alone in one line")
    forward_activity: bool = Field(
        default=False, description="send `activity` and `worn`, an elder's daily rhythm; needs their consent"
    )
    gzip: bool | None = Field(
        default=None, description="compress; null: yes, except towards this machine itself"
    )

    def token(self) -> str | None:
        """Read the token. Raises `ConfigurationError`."""
        return read_secret(self.token_file) if self.token_file is not None else None


class History(_Section):
    """What devices said, kept here for months."""

    enabled: bool = Field(
        default=True, description="keep a local history; false: the journal is all there is"
    )
    every_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=300,
        description="longest time between two runs that take readings from the journal, in seconds",
    )
    max_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        default=90, description="how many days are kept; older readings go part by part"
    )
    max_bytes: Annotated[int, Field(ge=_LEAST_BYTES, le=_MOST_BYTES), BeforeValidator(_size)] = Field(
        default=4 * 10**9,
        description="how large it may grow beside the journal; the oldest readings go first",
    )


class Http(_Section):
    """The board and the API."""

    host: Annotated[str, AfterValidator(_loopback)] = Field(
        default="127.0.0.1", description="where to listen; only loopback until there are users and passwords"
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=8080, description="port of the board and the API; 0 takes a free one and names it"
    )


class Log(_Section):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="least level shown"
    )
    format: Literal["auto", "text", "logfmt", "json"] = Field(
        default="auto", description="auto: text at a terminal, else logfmt"
    )


class Config(_Section):
    """Everything that can be set; each field's default is what runs without a file."""

    site: _Level = Field(
        default="c1", description="name of the community: a level of every topic, part of every address"
    )
    node: _Level = Field(
        default="gw-1", description="name of this gateway; two of the same name push each other out"
    )
    data_dir: _File = Field(
        default=Path("data"), description="journal, lock and control socket; one gateway at a time may use it"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="Asia/Shanghai", description="the community's clock"
    )
    holidays: Annotated[
        tuple[Annotated[date, BeforeValidator(_day)], ...],
        BeforeValidator(lambda written: () if written is None else written),
    ] = Field(default=(), description="days such as 2027-01-01 that `holidays` in the hours of rules means")
    language: Literal["zh", "en"] = Field(
        default="zh", description="of alarms, reports and errors at the shell, and of the board"
    )
    mqtt: Annotated[Mqtt, BeforeValidator(_section)] = Field(default=Mqtt(), description="the broker")
    store: Annotated[Store, BeforeValidator(_section)] = Field(
        default=Store(), description="the journal on disk"
    )
    cloud: Annotated[Cloud, BeforeValidator(_section)] = Field(
        default=Cloud(), description="the store far away"
    )
    history: Annotated[History, BeforeValidator(_section)] = Field(
        default=History(), description="what devices said, kept here for months"
    )
    http: Annotated[Http, BeforeValidator(_section)] = Field(
        default=Http(), description="the board and the API"
    )
    log: Annotated[Log, BeforeValidator(_section)] = Field(
        default=Log(), description="what goes to standard error"
    )
    rules: Annotated[
        tuple[_File, ...], BeforeValidator(lambda written: () if written is None else written)
    ] = Field(default=(), description="rule files besides the shipped packs")
    devices: _File | None = Field(
        default=None, description="registry file: devices and the places they stand in"
    )
    people: _File | None = Field(default=None, description="contacts and escalation; not supported yet")
    unregistered_max: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=20_000,
        description="devices outside the registry that are evaluated; beyond, only smoke and emergencies",
    )


def read_text(path: Path, shown: str) -> str:
    """The text of a file that a person wrote. Raises `ConfigurationError` naming it ``shown``."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError([Fault(shown, "", "is no UTF-8 text; save it as UTF-8")]) from error
    except OSError as error:
        reason = (
            "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise ConfigurationError([Fault(shown, "", reason)]) from error


def read_secret(path: Path) -> str:
    """The one line of a secret's file, without its end. Raises `ConfigurationError`."""
    shown = shown_path(path)
    text = read_text(path, shown).removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text or len(text) > SECRET_LIMIT:
        raise ConfigurationError([Fault(shown, "", "must hold the secret alone, in one line")])
    return text


def shown_path(path: Path) -> str:
    """A path as a person in the working directory would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
