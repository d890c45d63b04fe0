"""The HTTP endpoints (contract, section 9). Alarms come from the database, all else from the node.

So the alarms are served as long as there is a disk, whatever the node does.
"""

import time
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, HTTPException, Path, Query, Response
from starlette.responses import PlainTextResponse

from edge.control_client import ControlClient, ControlError, Health, Reason
from edge.explaining import view_of
from edge.store.reader import JournalReader
from edge.store.records import Gap
from edge.web.asked import checked_kind, checked_points, device_of, must_exist
from edge.web.database import Database
from edge.web.feed import AlarmFeed
from edge.web.history import HistoryHelper
from edge.web.models import (
    AlarmModel,
    DeviceModel,
    ExplanationModel,
    GapModel,
    HealthModel,
    Page,
    ProblemModel,
    ReadingModel,
    StepModel,
)
from edge.web.moments import Moment, Step, step_of
from edge.web.settings import WebSettings
from edge.web.stream import EventStream
from rules.alarms import AlarmState, Severity

_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"

_Answers = dict[int | str, dict[str, Any]]
"""FastAPI's form of documented answers."""

_AWAY: _Answers = {503: {"model": ProblemModel}}
_MISSING: _Answers = {404: {"model": ProblemModel}}

HISTORY_MOST = 10_000
"""Readings of a page, or steps."""

_DAY_MS = 86_400_000
_AHEAD_MS = 300_000
"""A device's clock may be so far ahead and is believed."""

_Level = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Report(msgspec.Struct, frozen=True):
    text: str


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]


class Api:
    """The endpoints but the board."""

    def __init__(
        self,
        settings: WebSettings,
        node: ControlClient,
        database: Database,
        feed: AlarmFeed,
        history: HistoryHelper,
    ) -> None:
        self._settings = settings
        self._node = node
        self._database = database
        self._feed = feed
        self._history = history

    def router(self) -> APIRouter:
        """The endpoints at their places, with the shapes of their answers for the OpenAPI document."""
        router = APIRouter()
        get = router.add_api_route
        get("/healthz", self.healthz, responses={200: {"model": HealthModel}, 503: {"model": HealthModel}})
        get("/metrics", self.metrics, response_class=PlainTextResponse)
        get("/api/v1/alarms", self.alarms, responses={200: {"model": Page[AlarmModel]}, **_AWAY})
        get(
            "/api/v1/alarms/{alarm_id}",
            self.alarm,
            responses={200: {"model": AlarmModel}, **_MISSING, **_AWAY},
        )
        get(
            "/api/v1/alarms/{alarm_id}/explanation",
            self.explanation,
            responses={200: {"model": ExplanationModel}, **_MISSING, **_AWAY},
        )
        get("/api/v1/devices", self.devices, responses={200: {"model": Page[DeviceModel]}, **_AWAY})
        get(
            "/api/v1/devices/{kind}/{device}",
            self.device,
            responses={200: {"model": DeviceModel}, **_MISSING, **_AWAY},
        )
        get(
            "/api/v1/devices/{kind}/{device}/history",
            self.history,
            responses={200: {"model": Page[ReadingModel] | Page[StepModel]}, **_MISSING, **_AWAY},
        )
        get("/api/v1/gaps", self.gaps, responses={200: {"model": Page[GapModel]}, **_AWAY})
        get(
            "/api/v1/stream",
            self.stream,
            response_class=Response,
            responses={200: {"content": {"text/event-stream": {}}}, **_AWAY},
        )
        return router

    async def healthz(self) -> Response:
        """Whether ingest, journal and rules work (else 503), and everything else that is wrong."""
        try:
            health = msgspec.json.decode(await self._node.request("health"), type=Health)
        except (ControlError, msgspec.MsgspecError) as error:
            remedy = "see the gateway's log; start it with `anlin run`"
            reason = Reason("node_away", str(error), remedy)
            health = Health(status="failed", reasons=[reason], site=self._settings.site)
        return Response(_health(health), 503 if health.status == "failed" else 200, media_type=_JSON)

    async def metrics(self) -> Response:
        """Prometheus text: the node's figures, if it answers, and the web's own."""
        try:
            node = msgspec.json.decode(await self._node.request("metrics"), type=_Report).text.rstrip() + "\n"
        except (ControlError, msgspec.MsgspecError):
            node = ""
        return Response(node + _own(node_up=bool(node), feed=self._feed), media_type=_METRICS)

    async def alarms(
        self,
        severity: Annotated[list[Severity] | None, Query()] = None,
        state: Annotated[list[AlarmState] | None, Query()] = None,
    ) -> Response:
        """What stands, worst first, then newest first. Each filter may be given more than once."""
        standing = await self._database.read(JournalReader.standing_alarms)
        chosen = (
            alarm.wire()
            for alarm in sorted(standing, key=attrgetter("urgency"))
            if (not severity or alarm.severity in severity) and (not state or alarm.state in state)
        )
        return Response(b'{"items":[%s],"next":null}' % b",".join(chosen), media_type=_JSON)

    async def alarm(self, alarm_id: _Level) -> Response:
        """One alarm, also after it has left the board."""
        found = await self._database.read(lambda journal: journal.alarm(alarm_id))
        if found is None:
            raise HTTPException(404, f"there is no alarm {alarm_id}: GET /api/v1/alarms lists what stands")
        return Response(found.wire(), media_type=_JSON)

    async def explanation(self, alarm_id: _Level) -> Response:
        """Why an alarm came: what was seen, which limit, since when, which rule. Also after it has left the board."""
        found = await self._database.read(lambda journal: journal.alarm(alarm_id))
        view = None if found is None else view_of(found)
        if view is None:
            was = "there is no alarm" if found is None else "no reasons are stored of alarm"
            raise HTTPException(404, f"{was} {alarm_id}: GET /api/v1/alarms lists what stands")
        return Response(msgspec.json.encode(view), media_type=_JSON)

    async def devices(
        self,
        kind: Annotated[str | None, Query(max_length=64)] = None,
        after: Annotated[str | None, Query(max_length=256)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """The devices that were heard or are registered, by address."""
        checked_kind(kind)
        page = await self._node.request("devices", kind=kind, after=after, limit=limit)
        return Response(bytes(page), media_type=_JSON)

    async def device(self, kind: _Level, device: _Level) -> Response:
        """One device with its last points."""
        found = await device_of(self._node, self._settings.site, kind, device)
        return Response(bytes(found), media_type=_JSON)

    async def history(
        self,
        kind: _Level,
        device: _Level,
        from_: Annotated[Moment | None, Query(alias="from")] = None,
        to: Annotated[Moment | None, Query()] = None,
        points: Annotated[str | None, Query(max_length=1_024)] = None,
        step: Annotated[Step | None, Query()] = None,
        after: Annotated[str | None, Query(pattern=r"^\d{1,16}-\d{1,9}$")] = None,
        limit: Annotated[int, Query(ge=1, le=HISTORY_MOST)] = 1_000,
    ) -> Response:
        """What a device said from `from` on and before `to` (the last day without them), by event time.

        Times are RFC 3339 with a zone, or Unix milliseconds. With a `step` (`30s`, `5m`, `1h`, `1d`) each point's
        least, mean, greatest and last value per step; without, the readings, in pages. A device that nobody knows
        is 404, a point that its kind does not have 422.
        """
        to_ms = time.time_ns() // 1_000_000 + _AHEAD_MS if to is None else to
        from_ms = to_ms - _DAY_MS if from_ is None else from_
        step_ms = None if step is None else step_of(step)
        if from_ms >= to_ms:
            raise HTTPException(422, "from: must be before to")
        if step_ms is not None and (to_ms - from_ms) / step_ms > HISTORY_MOST:
            raise HTTPException(422, f"step: more than {HISTORY_MOST} of them: take a longer one")
        given = (
            dict[str, object](zip(("from_ms", "skip"), map(int, after.split("-")), strict=True))
            if after
            else {}
        )
        question = {
            "address": f"{self._settings.site}/{kind}/{device}",
            "from_ms": from_ms,
            "to_ms": to_ms,
            "points": checked_points(kind, points),
            "step_ms": step_ms,
            "limit": limit,
        }
        page = await self._history.ask(question | given)
        if not after and not msgspec.json.decode(page, type=_Page).items:
            await must_exist(self._node, self._settings.site, kind, device)
        return Response(page, media_type=_JSON)

    async def gaps(
        self,
        after: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """Every loss that is known, the newest first."""
        found = await self._database.read(lambda journal: journal.newest_gaps(limit + 1, before=after))
        page = found[:limit]
        following = str(page[-1][0]) if len(found) > limit else None
        return Response(
            msgspec.json.encode({"items": [_gap(number, gap) for number, gap in page], "next": following}),
            media_type=_JSON,
        )

    async def stream(
        self,
        last_event_id: Annotated[int | None, Header(ge=0)] = None,
        resume: Annotated[int | None, Query(ge=0, alias="last_event_id")] = None,
    ) -> Response:
        """Every alarm change as a server-sent event: `id` is its journal number, `data` the alarm.

        The header `Last-Event-ID`, or else the parameter, resumes after that number.
        """
        if self._feed.listeners >= self._settings.listeners_max:
            raise HTTPException(503, "too many streams are open: close one", {"Retry-After": "5"})
        start = last_event_id if last_event_id is not None else resume
        return EventStream(self._feed, start, self._settings.heartbeat_s)


def _gap(number: int, gap: Gap) -> dict[str, object]:
    return {
        "number": number,
        "at": gap.at,
        "lane": gap.lane,
        "count": gap.count or None,
        "from": gap.from_ms,
        "to": gap.to_ms,
        "reason": gap.reason,
    }


def _health(health: Health) -> bytes:
    return msgspec.json.encode(msgspec.structs.asdict(health) | {"now": time.time_ns() // 1_000_000})


def _own(*, node_up: bool, feed: AlarmFeed) -> str:
    """The web's own figures."""
    figures = (
        ("anlin_web_up", "gauge", "The web process answers.", 1),
        ("anlin_node_up", "gauge", "The node answers the web process.", int(node_up)),
        ("anlin_web_streams", "gauge", "Event streams open now.", feed.listeners),
        ("anlin_web_feed_failures_total", "counter", "Faults the alarm feed went on after.", feed.failures),
    )
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n" for name, kind, text, value in figures
    )
