"""The history's answers: parts and the newest minutes together, by event time, through the real web process."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from pydantic import TypeAdapter

from devices.readings import Channel
from edge.history.catalogue import folder_of, parts_in
from edge.history.compaction import compact
from edge.web.history import HistoryAwayError, HistoryHelper
from edge.web.models import Page, ProblemModel, ReadingModel, StepModel
from tests.fake_node import FakeNode
from tests.history_world import PLENTY, START, Told, said, spoken
from tests.waiting import until
from tests.web_world import Web, web

MINUTE = 60_000
PATH = "/api/v1/devices/smoke/sm1/history"


def a_told_day(folder: Path) -> Told:
    """A device that says something each minute; the last ten minutes lie in the journal only."""
    told = Told(folder)
    for minute in range(60):
        told.commit(
            [
                said(minute * MINUTE, density=minute / 2, smoke=minute == 7, battery=90 - minute),
                *spoken(minute),
            ]
        )
        if minute in (20, 35, 49):
            compact(folder, PLENTY)
    return told


async def items(board: Web, query: str) -> list[Any]:
    answer = await board.get(f"{PATH}?{query}")
    assert answer.status == 200, answer.body
    found: list[Any] = answer.json["items"]
    return found


def test_readings_come_by_event_time_page_by_page_from_parts_and_journal_alike(tmp_path: Path) -> None:
    told = a_told_day(tmp_path)
    late = said(30 * MINUTE, density=1.5)
    told.commit([late, said(59 * MINUTE, channel=Channel.STATUS, state="online")])

    async def story() -> None:
        async with web(tmp_path) as board:
            query = f"from={START}&to={START + 60 * MINUTE}"
            whole = await board.get(f"{PATH}?{query}")
            TypeAdapter(Page[ReadingModel]).validate_json(whole.body)
            found = whole.json["items"]
            assert whole.json["next"] is None
            times = [item["source_time"] for item in found]
            assert times == sorted(times)
            assert times == sorted(
                [*(START + n * MINUTE for n in range(60)), START + 30 * MINUTE, START + 59 * MINUTE]
            )
            assert found[0]["values"] == {"density": 0, "smoke": False, "battery": 90}
            assert {item["channel"] for item in found} == {"telemetry", "status"}

            paged: list[Any] = []
            after = ""
            for _ in range(100):
                page = (await board.get(f"{PATH}?{query}&limit=7{after}")).json
                paged += page["items"]
                if page["next"] is None:
                    break
                after = f"&after={page['next']}"
            assert paged == found

            some = await items(board, f"{query}&points=smoke,tamper")
            assert len(some) == 60
            assert some[7]["values"] == {"smoke": True}

    asyncio.run(story())
    told.writer.close()


def test_a_step_gives_least_mean_greatest_and_last_of_each_point(tmp_path: Path) -> None:
    told = a_told_day(tmp_path)

    async def story() -> None:
        async with web(tmp_path) as board:
            begin = datetime.fromtimestamp(START / 1000, UTC)
            shanghai = begin.astimezone(timezone(timedelta(hours=8))).isoformat().replace("+", "%2B")
            answer = await board.get(f"{PATH}?from={shanghai}&to={START + 60 * MINUTE}&step=20m")
            page = TypeAdapter(Page[StepModel]).validate_json(answer.body)
            assert [step.at for step in page.items] == [START + n * 20 * MINUTE for n in range(3)]
            first = answer.json["items"][0]["points"]
            assert first["density"] == {"count": 20, "last": 9.5, "min": 0.0, "mean": 4.75, "max": 9.5}
            assert first["smoke"] == {"count": 20, "last": False, "min": None, "mean": None, "max": None}
            only = await items(board, f"from={START}&to={START + 60 * MINUTE}&step=1h&points=battery")
            assert only == [
                {
                    "at": START,
                    "points": {"battery": {"count": 60, "last": 31, "min": 31.0, "mean": 60.5, "max": 90.0}},
                }
            ]

    asyncio.run(story())
    told.writer.close()


def test_it_goes_on_being_whole_while_it_is_compacted_and_written(tmp_path: Path) -> None:
    told = Told(tmp_path)

    async def story() -> None:
        async with web(tmp_path) as board:
            for minute in range(12):
                told.commit([said(minute * MINUTE, density=1)])
                if minute % 2:
                    await asyncio.to_thread(compact, tmp_path, PLENTY)
                found, _ = await asyncio.gather(
                    items(board, f"from={START}&to={START + 10**8}"),
                    asyncio.to_thread(compact, tmp_path, PLENTY),
                )
                assert len(found) == minute + 1

    asyncio.run(story())
    told.writer.close()


def test_a_question_that_cannot_be_answered_is_told_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with web(tmp_path) as board:
            for query, says in (
                ("from=yesterday", "RFC 3339"),
                ("from=2026-11-22T08:00:00", "with a zone"),
                ("from=9&to=9", "before"),
                ("step=5", "step"),
                ("from=0&step=1s", "longer"),
                ("after=x", "after"),
                ("limit=0", "limit"),
                ("points=smoke,densty", "did you mean 'density'?"),
            ):
                answer = await board.get(f"{PATH}?{query}")
                assert answer.status == 422
                assert says in ProblemModel.model_validate_json(answer.body).detail
            nowhere = await board.get(PATH)  # there is no journal yet
            assert nowhere.status == 503
            assert "start the gateway" in nowhere.json["detail"]

    asyncio.run(story())


def test_an_answer_that_is_too_large_is_refused_with_the_remedy_and_the_next_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path)
    told.commit([msgspec.structs.replace(said(at, density=1), extra={"said": "x" * 900}) for at in range(99)])
    monkeypatch.setattr("edge.web.history.ANSWER_MAX", 20_000)  # the real one would take a minute to fill

    async def story() -> None:
        helper = HistoryHelper(str(tmp_path))
        question = {"address": "c1/smoke/sm1", "from_ms": START, "to_ms": START + MINUTE}
        with pytest.raises(HistoryAwayError, match="more than 20,000 bytes: ask for less with limit"):
            await helper.ask(question)
        page = json.loads(await helper.ask(question | {"limit": 3}))
        assert len(page["items"]) == 3
        await helper.close()

    asyncio.run(story())
    told.writer.close()


def test_the_helper_goes_when_nobody_asks_and_its_death_costs_one_question(tmp_path: Path) -> None:
    told = a_told_day(tmp_path)

    def helpers(board: Web) -> list[psutil.Process]:
        children = psutil.Process(board.process.pid).children()
        return [each for each in children if each.status() != psutil.STATUS_ZOMBIE]

    async def story() -> None:
        async with web(tmp_path, history_idle_s=0.5) as board:
            assert not helpers(board)
            assert await items(board, f"from={START}")
            await until(lambda: not helpers(board))
            assert await items(board, f"from={START}")  # and it comes again
        async with web(tmp_path) as board:
            assert await items(board, f"from={START}")
            (helper,) = helpers(board)
            helper.kill()
            answers = [await board.get(f"{PATH}?from={START}") for _ in range(2)]
            assert answers[-1].status == 200
            if answers[0].status != 200:
                assert "again" in ProblemModel.model_validate_json(answers[0].body).detail

    asyncio.run(story())
    told.writer.close()


def test_a_damaged_part_is_named_and_the_next_compaction_puts_it_aside(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for seq in range(1, 4):
        told.commit([said(seq, density=1)])
        compact(tmp_path, PLENTY)
    broken = parts_in(folder_of(tmp_path))[1].path
    broken.write_bytes(broken.read_bytes()[:-100])

    async def story() -> None:
        async with web(tmp_path) as board:
            answer = await board.get(f"{PATH}?from={START}&to={START + MINUTE}")
            assert answer.status == 503
            assert broken.name in ProblemModel.model_validate_json(answer.body).detail
            told.commit([said(4, density=1)])
            assert compact(tmp_path, PLENTY).damaged == 1
            assert len(await items(board, f"from={START}&to={START + MINUTE}")) == 3

    asyncio.run(story())
    told.writer.close()


def test_a_device_or_kind_that_nobody_knows_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    told = a_told_day(tmp_path)

    async def story() -> None:
        async with FakeNode(tmp_path) as node, web(tmp_path) as board:
            for path, says in (
                (
                    "smoke/sn1",
                    "no device c1/smoke/sn1; did you mean smoke/sm1? (GET /api/v1/devices?kind=smoke",
                ),
                ("smok/sm1", "did you mean 'smoke'?"),
                ("charger/sm1", "no device c1/charger/sm1"),
            ):
                for rest in ("/history", "/history?step=1h", ""):
                    answer = await board.get(f"/api/v1/devices/{path}{rest}")
                    assert answer.status == 404, path
                    assert says in ProblemModel.model_validate_json(answer.body).detail
            known = await board.get("/api/v1/devices/smoke/sm2/history")
            assert (known.status, known.json["items"]) == (200, [])  # it is there, and said nothing
            await node.stop()
            away = await board.get("/api/v1/devices/smoke/sn1/history")
            assert (away.status, away.json["items"]) == (200, [])

    asyncio.run(story())
    told.writer.close()
