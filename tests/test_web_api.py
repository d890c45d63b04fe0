"""What the web process serves: the API, its guards, and its end."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest
from pydantic import TypeAdapter

from devices.readings import address_of
from edge.store.journal import Journal
from edge.store.records import Batch, Gap, GapReason, OrderResult, OrderStatus
from edge.web.models import AlarmModel, DeviceModel, GapModel, HealthModel, OrderModel, Page, ProblemModel
from edge.web.settings import SettingsError, WebSettings
from rules.alarms import Severity, Transition, WireClosed
from rules.decisions import Order
from tests.fake_node import FakeNode
from tests.waiting import PATIENCE_S
from tests.web_world import ROOT, START_MS, Book, alarm, changed, raised, web

RSS_MAX = 75 * 2**20


def test_alarms_are_the_wire_form_worst_first_then_newest_first(tmp_path: Path) -> None:
    async def story() -> None:
        old, new = alarm(1), alarm(2)
        low, high = alarm(3, severity=Severity.LOW), alarm(4, severity=Severity.HIGH)
        async with Book(tmp_path) as book, FakeNode(tmp_path), web(tmp_path) as board:
            await book.commit(*map(raised, (old, new, low, high)))
            answer = await board.get("/api/v1/alarms")
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.json == {
                "items": [json.loads(one.wire()) for one in (new, old, high, low)],
                "next": None,
            }
            TypeAdapter(Page[AlarmModel]).validate_json(answer.body)

    asyncio.run(story())


def test_alarms_are_filtered_by_severity_and_state(tmp_path: Path) -> None:
    async def story() -> None:
        one, low = alarm(1), alarm(2, severity=Severity.LOW)
        acked = alarm(3, acked_at=5, acked_by="Wang")
        async with Book(tmp_path) as book, web(tmp_path) as board:
            await book.commit(*map(raised, (one, low, acked)))

            async def ids(query: str) -> list[str]:
                return [found["id"] for found in (await board.get(f"/api/v1/alarms?{query}")).json["items"]]

            assert await ids("severity=low") == [low.id]
            assert await ids("severity=low&severity=critical&state=unacked") == [one.id, low.id]
            assert await ids("state=acked") == [acked.id]
            assert (await board.get("/api/v1/alarms?severity=awful")).status == 422

    asyncio.run(story())


def test_an_alarm_that_has_left_the_board_is_still_told_and_an_unknown_one_is_not_found(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        one = alarm(1, severity=Severity.LOW, ack_required=False)
        gone = changed(one, Transition.CLEARED, active=False, cleared_at=one.raised_at + 1)
        async with Book(tmp_path) as book, web(tmp_path) as board:
            await book.commit(raised(one), gone)
            assert (await board.get("/api/v1/alarms")).json["items"] == []
            answer = await board.get(f"/api/v1/alarms/{one.id}")
            assert answer.json == json.loads(gone.alarm.wire())
            assert answer.json["state"] == "normal"
            missing = await board.get("/api/v1/alarms/nobody")
            assert missing.status == 404
            assert missing.headers["content-type"] == "application/problem+json"
            assert "nobody" in ProblemModel.model_validate_json(missing.body).detail

    asyncio.run(story())


def test_losses_come_newest_first_in_pages_whatever_the_node_does(tmp_path: Path) -> None:
    gaps = [Gap(START_MS + n, "bulk", n, START_MS, START_MS + n, GapReason.BROKER_DROPPED) for n in range(5)]

    async def story() -> None:
        async with Journal(tmp_path, max_bytes=10**9, forwarding=False) as journal, web(tmp_path) as board:
            assert (await board.get("/api/v1/gaps")).json == {"items": [], "next": None}
            await journal.commit(Batch(1, now=START_MS, gaps=gaps))
            first = await board.get("/api/v1/gaps?limit=2")
            page = TypeAdapter(Page[GapModel]).validate_json(first.body)
            assert first.json["items"][0] == {
                "number": 5, "at": START_MS + 4, "lane": "bulk", "count": 4, "from": START_MS, "to": START_MS + 4,
                "reason": "broker_dropped",
            }  # fmt: skip
            rest = (await board.get(f"/api/v1/gaps?after={page.next}")).json
            assert [item["number"] for item in rest["items"]] == [3, 2, 1]
            assert rest["items"][-1]["count"] is None  # nobody knows how many
            assert rest["next"] is None
            assert (await board.get("/api/v1/gaps?limit=501")).status == 422
            assert (await board.get("/api/v1/gaps?after=x")).status == 422

    asyncio.run(story())


def test_devices_come_from_the_node_in_pages(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path) as node, web(tmp_path) as board:
            first = await board.get("/api/v1/devices?limit=2")
            page = TypeAdapter(Page[DeviceModel]).validate_json(first.body)
            assert [item.address for item in page.items] == ["c1/charger/p1", "c1/smoke/sm1"]
            rest = await board.get(f"/api/v1/devices?limit=2&after={page.next}")
            assert [item["address"] for item in rest.json["items"]] == ["c1/smoke/sm2"]
            assert rest.json["next"] is None
            assert len((await board.get("/api/v1/devices?kind=charger")).json["items"]) == 1
            assert (await board.get("/api/v1/devices?limit=501")).status == 422
            one = await board.get("/api/v1/devices/smoke/sm1")
            assert one.json == node.devices[0]
            assert (await board.get("/api/v1/devices/smoke/none")).status == 404
            assert (await board.get("/api/v1/devices/smoke/a%20b")).status == 422

    asyncio.run(story())


def test_healthz_is_200_while_the_main_work_is_done_and_503_with_reasons_when_not(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path) as node, web(tmp_path) as board:
            answer = await board.get("/healthz")
            assert answer.status == 200
            assert HealthModel.model_validate_json(answer.body).status == "ok"
            broker = {
                "code": "embedded_broker",
                "message": "a restart loses what is on its way",
                "remedy": "use Mosquitto",
            }
            node.health |= {"status": "degraded", "embedded_broker": True, "reasons": [broker]}
            answer = await board.get("/healthz")
            assert answer.status == 200
            assert answer.json["embedded_broker"] is True
            assert answer.json["reasons"] == [broker]
            node.health |= {"status": "failed"}
            assert (await board.get("/healthz")).status == 503

    asyncio.run(story())


def test_without_the_node_healthz_says_so_and_the_alarms_are_still_served(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await book.commit(raised(alarm(1)))
            await board.eventually("/healthz", 200)
            await node.stop()
            away = await board.get("/healthz")
            assert away.status == 503
            (reason,) = away.json["reasons"]
            assert reason["code"] == "node_away"
            assert "anlin run" in reason["remedy"]
            assert len((await board.get("/api/v1/alarms")).json["items"]) == 1
            devices = await board.get("/api/v1/devices")
            assert devices.status == 503
            assert devices.headers["retry-after"]
            assert "anlin_node_up 0\n" in (await board.get("/metrics")).body.decode()
            async with FakeNode(tmp_path):
                await board.eventually("/healthz", 200)

    asyncio.run(story())


TOGETHER_S = 8.0
"""Less than five viewers would wait one after the other."""


def test_a_node_that_hangs_costs_a_viewer_two_seconds_and_the_alarms_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await book.commit(raised(alarm(1)))
            node.silent.set()
            asked = [asyncio.create_task(board.get("/healthz")) for _ in range(5)]
            assert len((await board.get("/api/v1/alarms")).json["items"]) == 1
            assert not any(task.done() for task in asked)
            async with asyncio.timeout(TOGETHER_S):
                assert {(await task).status for task in asked} == {503}
            node.silent.clear()
            await board.eventually("/healthz", 200)

    asyncio.run(story())


def test_metrics_are_the_nodes_and_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path) as board:
            answer = await board.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            lines = answer.body.decode().splitlines()
            assert {"anlin_messages 7", "anlin_web_up 1", "anlin_node_up 1"} <= set(lines)

    asyncio.run(story())


def test_without_a_database_the_answer_says_so_until_there_is_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with web(tmp_path) as board:
            assert (await board.get("/api/v1/alarms")).status == 503
            async with Book(tmp_path) as book:
                await book.commit(raised(alarm(1)))
                assert len((await board.eventually("/api/v1/alarms", 200)).json["items"]) == 1

    asyncio.run(story())


def test_a_foreign_host_is_refused_and_every_answer_is_guarded(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path) as board:
            for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"):
                refused = await board.get("/api/v1/alarms", Host=host)
                assert refused.status == 421, host
                assert b"items" not in refused.body
            for host in ("localhost", "127.0.0.1", "[::1]:8080", "LOCALHOST:1"):
                assert (await board.get("/api/v1/alarms", Host=host)).status == 200, host
            for path in ("/", "/api/v1/alarms", "/static/board.js", "/nowhere"):
                headers = (await board.get(path, Origin="http://evil.example")).headers
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "unsafe" not in headers["content-security-policy"]
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["referrer-policy"] == "no-referrer"
                assert headers["x-frame-options"] == "DENY"
                assert not [name for name in headers if name.startswith("access-control")]

    asyncio.run(story())


def test_what_a_foreign_page_asks_for_is_refused_and_what_a_person_or_a_program_asks_for_is_not(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path) as board:

            async def asked(site: str, dest: str, path: str = "/api/v1/alarms") -> int:
                return (await board.get(path, Sec_Fetch_Site=site, Sec_Fetch_Dest=dest)).status

            for site in ("cross-site", "same-site", "unheard-of"):
                for dest in ("empty", "image", "script", "iframe", "embed"):
                    assert await asked(site, dest) == 403, (site, dest)
            assert await asked("cross-site", "empty", "/api/v1/stream") == 403
            assert await asked("cross-site", "document", "/") == 200  # a link that was followed
            assert await asked("same-origin", "empty") == 200
            assert await asked("none", "document") == 200
            assert (await board.get("/api/v1/alarms")).status == 200

    asyncio.run(story())


def test_the_page_is_its_own_files_and_there_are_no_docs_pages_from_elsewhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path, language="en") as board:
            page = await board.get("/")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert b'data-language="en"' in page.body
            assert b"http://" not in page.body
            assert b"https://" not in page.body
            again = await board.get("/static/board.js", If_None_Match="no")
            assert again.status == 200
            assert (await board.get("/static/board.js", If_None_Match=again.headers["etag"])).status == 304
            for path in ("/docs", "/redoc", "/static/../process.py", "/static/%2e%2e%2fprocess.py"):
                assert (await board.get(path)).status == 404, path

    asyncio.run(story())


def test_openapi_tells_every_endpoint_and_the_shapes(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path) as board:
            told = (await board.get("/api/v1/openapi.json")).json
            assert set(told["paths"]) == {
                "/healthz",
                "/metrics",
                "/api/v1/alarms",
                "/api/v1/alarms/{alarm_id}",
                "/api/v1/alarms/{alarm_id}/explanation",
                "/api/v1/gaps",
                "/api/v1/orders",
                "/api/v1/orders/{order_id}",
                "/api/v1/devices",
                "/api/v1/devices/{kind}/{device}",
                "/api/v1/devices/{kind}/{device}/history",
                "/api/v1/stream",
            }
            shapes = told["components"]["schemas"]
            assert {"AlarmModel", "DeviceModel", "ExplanationModel", "HealthModel", "ProblemModel"} <= set(
                shapes
            )
            assert tuple(shapes["AlarmModel"]["properties"]) == WireClosed.__struct_fields__

    asyncio.run(story())


def test_it_ends_when_its_parent_has_gone_even_with_a_viewer_listening(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path) as board, board.stream():
            assert board.process.stdin is not None
            board.process.stdin.close()
            async with asyncio.timeout(PATIENCE_S):
                assert await board.process.wait() == 0

    asyncio.run(story())


def test_it_ends_quietly_on_sigterm(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path) as board:
            await board.get("/")
            board.process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await board.process.wait() == 0

    asyncio.run(story())


def test_a_port_that_is_taken_is_one_line_with_a_remedy_and_exit_code_3(tmp_path: Path) -> None:
    async def story() -> None:
        async with web(tmp_path) as board:
            code, told = await outcome(WebSettings(data_dir=str(tmp_path), site="c1", port=board.port))
            assert code == 3
            assert told.count("\n") == 1
            assert f"127.0.0.1:{board.port}" in told
            assert "http.port" in told

    asyncio.run(story())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "gateway.local", "::", ""])  # noqa: S104 - refused
def test_a_host_that_others_can_reach_is_refused(host: str) -> None:
    settings = WebSettings(data_dir="/nowhere", site="c1", host=host)
    with pytest.raises(SettingsError, match="loopback"):
        WebSettings.parse(settings.command()[-1])


def test_wrong_settings_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    async def story() -> None:
        code, told = await outcome(WebSettings(data_dir=str(tmp_path), site="c1", host="0.0.0.0"))  # noqa: S104 - refused
        assert code == 2
        assert told.count("\n") == 1
        assert "http.host" in told

    asyncio.run(story())


def test_the_process_is_small_also_with_many_devices_and_alarms(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node:
            node.devices = [node.devices[0] | {"address": f"c1/smoke/sm{n:05}"} for n in range(8_000)]
            await book.commit(*(raised(alarm(n)) for n in range(1_000)))
            async with web(tmp_path) as board:
                after: str | None = ""
                while after is not None:
                    after = (await board.get(f"/api/v1/devices?limit=500&after={after}")).json["next"]
                async with board.stream("?last_event_id=0") as stream:
                    assert len(await stream.alarms(1_000)) == 1_000
                assert len((await board.get("/api/v1/alarms")).json["items"]) == 1_000
                assert psutil.Process(board.process.pid).memory_info().rss < RSS_MAX

    asyncio.run(story())


async def outcome(settings: WebSettings) -> tuple[int | None, str]:
    """How a process that cannot serve ends."""
    process = await asyncio.create_subprocess_exec(
        *settings.command(), cwd=ROOT, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        told = (await process.stderr.read()).decode()
        code = await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    return code, told


def test_orders_are_told_with_who_gave_them_and_what_became_of_them(tmp_path: Path) -> None:
    def order(number: int, **facts: str) -> Order:
        given = {"alarm_id": "", **facts}
        return Order(
            id=f"0{number}", address=address_of("c1", "charger", "p1"), command="cut_power", args={},
            issued_at=START_MS, expires_at=START_MS + 60_000, **given,
        )  # fmt: skip

    async def story() -> None:
        async with Journal(tmp_path, max_bytes=10**9, forwarding=False) as journal, web(tmp_path) as board:
            given = [order(1, by="Wang"), order(2, alarm_id="A1"), order(3, by="李")]
            done = OrderResult("01", OrderStatus.DONE, "cut", START_MS + 5)
            await journal.commit(Batch(1, now=START_MS, orders=given))
            await journal.commit(Batch(2, now=START_MS, order_results=[done]))
            first = await board.get("/api/v1/orders?limit=2")
            page = TypeAdapter(Page[OrderModel]).validate_json(first.body)
            assert [(one.id, one.by, one.alarm_id) for one in page.items] == [
                ("03", "李", None),
                ("02", None, "A1"),
            ]
            rest = (await board.get(f"/api/v1/orders?after={page.next}")).json
            assert rest["next"] is None
            assert [(one["status"], one["detail"], one["by"]) for one in rest["items"]] == [
                ("done", "cut", "Wang")
            ]
            assert (await board.get("/api/v1/orders/01")).json == rest["items"][0]
            missing = await board.get("/api/v1/orders/09")
            assert missing.status == 404
            assert "GET /api/v1/orders lists them" in missing.json["detail"]

    asyncio.run(story())


def test_a_question_that_cannot_be_answered_is_told_what_can_be_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), web(tmp_path) as board:
            missing = await board.get("/api/v1/alarm")
            assert missing.status == 404
            assert missing.json["detail"] == (
                "there is nothing at /api/v1/alarm: GET /api/v1/openapi.json lists what there is"
            )
            for path, told in (
                ("history?step=5x", "query.step: must be a length of time, as 30s, 5m, 1h or 1d"),
                ("history?step=0m", "query.step: must be a length of time, as 30s, 5m, 1h or 1d"),
                (
                    "history?from=yesterday",
                    "query.from: must be RFC 3339 with a zone, as 2026-11-22T08:00:00+08:00, or Unix milliseconds",
                ),
            ):
                refused = await board.get(f"/api/v1/devices/smoke/s1/{path}")
                assert refused.status == 422
                assert refused.json["detail"] == told

    asyncio.run(story())


def test_a_kind_that_there_is_not_is_no_empty_list(tmp_path: Path) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path) as board:
            answer = await board.get("/api/v1/devices?kind=smok")
            assert answer.status == 422
            assert "did you mean 'smoke'?" in answer.json["detail"]
            missing = await board.get("/api/v1/alarms/XYZ")
            assert missing.json["detail"] == "there is no alarm XYZ: GET /api/v1/alarms lists what stands"

    asyncio.run(story())
