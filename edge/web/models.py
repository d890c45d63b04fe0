"""The shapes of the API's answers, for its OpenAPI document. Answers are not built from these.

Building thousands of devices from models takes longer than a viewer should wait, so answers are written as
bytes; a test compares them with these shapes.
"""

from typing import Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from edge.store.records import GapReason, OrderStatus
from rules.alarms import AlarmState, Severity, Superseded
from rules.explanation import Sway

Scalar = bool | int | float | str

_Item = TypeVar("_Item")


class Model(BaseModel):
    """Exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class AlarmModel(Model):
    """An alarm on the wire (contract, section 3)."""

    id: str = Field(description="One stay on the board")
    key: str = Field(description="Names the condition for ever")
    rule: str
    severity: Severity
    state: AlarmState
    version: int
    occurrences: int
    site: str
    node: str
    kind: str
    device: str
    track: str | None
    place: dict[str, str]
    text: dict[str, str] = Field(description="By language")
    values: dict[str, Scalar]
    source_time: int = Field(description="Unix milliseconds")
    received_at: int = Field(description="Unix milliseconds")
    first_raised_at: AwareDatetime
    raised_at: AwareDatetime
    cleared_at: AwareDatetime | None
    acked_at: AwareDatetime | None
    acked_by: str | None
    comment: str | None
    cancelled_at: AwareDatetime | None = Field(description="Cancel was pressed; a person still closes it")
    late: bool
    drill: bool
    durable: bool
    provisional: bool = Field(description="The gateway did not know the time; its times are corrected later")
    superseded: Superseded | None = Field(
        description="Its rule has changed or is gone; it stands until a person closes it"
    )
    outcome: str | None = Field(
        description="Of what a camera follows: left, forced (rode along) or released by staff"
    )
    annunciated: bool = Field(description="Whether people are told of it by itself")
    shelved_until: AwareDatetime | None
    suppressed_by: str | None = Field(description="Key of the alarm that explains it")
    folded_into: str | None = Field(description="Id of the alarm that tells of it with others")
    members: list[str] | None = Field(description="Keys of the alarms that it tells of")
    chattering: bool = Field(description="It came and went several times within a minute")
    closed_at: AwareDatetime | None = Field(None, description="A person closed it; absent of any other alarm")
    closed_by: str | None = None
    close_comment: str | None = None


class SeenModel(Model):
    """A value that the condition looked at."""

    name: str
    value: Scalar | None = Field(description="null: never told, or not to be shown")
    at: AwareDatetime | None = Field(description="When the device told it, by its own clock")
    private: bool = Field(description="It tells of a person's daily life and is left out")
    duration: bool = Field(description="The value is in seconds")


class RiseModel(Model):
    """A rise in severity, foreseen."""

    after_ms: int
    severity: Severity


class LimitsModel(Model):
    """What was in force when it was raised, as the rule file said it."""

    when: str | None
    clear: str | None
    cancel: str | None
    let: dict[str, str]
    for_ms: int
    silent_for_ms: int | None
    clear_for_ms: int
    clear_after_ms: int
    cooldown_ms: int
    active: str | None
    escalate: list[RiseModel]


class RisenModel(Model):
    """A rise in severity that came."""

    severity: Severity
    at: AwareDatetime


class InfluenceModel(Model):
    """What kept people from being told of it by itself, or ended that."""

    what: Sway
    by: str
    at: AwareDatetime


class ExplanationModel(Model):
    """Why an alarm came."""

    id: str
    key: str
    rule: str
    rule_version: str = Field(description="SHA-256 of what the rule meant then")
    severity: Severity
    state: AlarmState
    late: bool
    raised_at: AwareDatetime
    since: AwareDatetime | None = Field(
        description="Since when it has been so, by the device's clock if not `found`"
    )
    so_at: AwareDatetime | None = Field(
        description="When it had been so for long enough, by the device's clock"
    )
    seen: list[SeenModel]
    seen_more: int = Field(description="Values left out of `seen`")
    limits: LimitsModel
    waited_ms: int = Field(description="For so long hours or a cooldown kept it from being raised")
    withheld: int = Field(description="How often its cooldown kept it from being raised before")
    rises: list[RisenModel]
    influences: list[InfluenceModel]
    closed_by_person: bool
    found: bool = Field(
        description="`since` is when the gateway found it to be so, by its own clock, from what was said before"
    )
    superseded: Superseded | None = Field(description="Its rule has changed since, or is gone")


class DeviceModel(Model):
    """A device as the node sees it now."""

    address: str
    kind: str
    device: str
    state: Literal["normal", "alarm", "unknown"]
    online: bool | None = Field(description="null: it has not said")
    last_seen: int | None = Field(description="Unix milliseconds")
    registered: bool
    place: dict[str, str]
    points: dict[str, Scalar]
    flags: int


class OrderModel(Model):
    """A command that a device was given, and what became of it."""

    id: str
    address: str
    kind: str
    device: str
    command: str
    args: dict[str, Scalar]
    by: str | None = Field(description="The person who gave it")
    alarm_id: str | None = Field(description="The alarm that gave it")
    issued_at: int = Field(description="Unix milliseconds")
    expires_at: int = Field(description="Never sent after it, Unix milliseconds")
    status: OrderStatus = Field(description="sent: the device has not answered")
    detail: str | None = Field(description="What the device said with it")
    at: int = Field(description="When the status was told, Unix milliseconds")


class GapModel(Model):
    """A known loss: a row of the gap ledger."""

    number: int = Field(description="Of its row; rises")
    at: int = Field(description="When it was put on record, Unix milliseconds")
    lane: str = Field(
        description="What is missing: `safety` or `bulk` messages that never came in, `readings` or `alarms` "
        "that the journal or the cloud lacks"
    )
    count: int | None = Field(description="How many; null: nobody can know")
    from_: int = Field(alias="from", description="Beginning of what is missing, Unix milliseconds")
    to: int = Field(description="Its end, Unix milliseconds")
    reason: GapReason


class ReadingModel(Model):
    """One thing that a device said."""

    source_time: int = Field(description="When it was so, Unix milliseconds")
    received_at: int = Field(description="When the gateway heard it, Unix milliseconds")
    channel: Literal["telemetry", "event", "status", "result"]
    values: dict[str, Scalar]
    flags: int = Field(description="1 retained, 2 clock doubted, 4 unregistered, 8 late; a sum of these")
    id: str | None = Field(description="The message's own")
    ts: int | float | str | None = Field(description="The raw `ts` where it is not believed")
    extra: dict[str, object] | None = Field(description="Unknown fields")


class SummaryModel(Model):
    """What one point was in one step."""

    count: int
    last: Scalar
    min: float | None = Field(description="null for what is no number, as `mean` and `max`")
    mean: float | None
    max: float | None


class StepModel(Model):
    """A step in which telemetry came; steps without any are left out."""

    at: int = Field(description="When it begins, Unix milliseconds; the first begins at `from`")
    points: dict[str, SummaryModel]


class Page(Model, Generic[_Item]):
    """A list."""

    items: list[_Item]
    next: str | None = Field(description="Pass it as `after` for the next page; null on the last")


class ReasonModel(Model):
    """Something that is wrong."""

    code: str
    message: str
    remedy: str


class HealthModel(Model):
    """How the gateway is."""

    status: Literal["ok", "degraded", "failed"]
    reasons: list[ReasonModel]
    embedded_broker: bool | None = Field(description="null: the node does not answer")
    version: str
    site: str
    node: str
    uptime_s: float | None
    cloud: dict[str, object] | None
    history: dict[str, object] | None = Field(description="null: none is kept, or no run has ended yet")
    counts: dict[str, int]
    now: int = Field(description="The gateway's clock, Unix milliseconds")


class ProblemModel(Model):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
