"""The board in a real browser: what a person in the duty room or with a phone sees."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.store.records import Gap, GapReason
from rules.alarms import Severity, Transition
from tests.browser import Browser
from tests.fake_node import FakeNode
from tests.web_world import Book, alarm, changed, free_port, raised, web

LIVE = "document.body.dataset.connection === 'live'"
CARDS = "document.querySelectorAll('.alarm').length"

LOW_CONTRAST = """
(() => {
  const rgba = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
  return texts.map((node) => {
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent];
  }).filter(([ratio]) => ratio < 4.5);
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_alarms_stand_worst_first_and_change_live(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        low = alarm(1, severity=Severity.LOW, ack_required=False)
        press = alarm(2, kind="button", device="bt0042", occurrences=3, text={"en": "Press", "zh": "呼救"})
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.subscribed.wait()
            for number in await book.commit(raised(low)):
                node.push(number, raised(low))

            await show(browser, board.port, "?lang=en", 1)
            [number] = await book.commit(raised(press))
            node.push(number, raised(press))
            await until(browser, f"{CARDS} === 2")
            first = await see(browser, ".alarm")
            for words in (
                "Critical",
                "Press",
                "Building 3, unit 2, floor 11, room 1102",
                "Alarm button bt0042",
                "Not acknowledged",
                "3 times",
            ):
                assert words in first
            assert re.search(r"\d+ (d|h|min|s)\b", first)
            assert "since" in first

            cancelled = changed(press, Transition.CHANGED, cancelled_at=press.raised_at + 5_000)
            [number] = await book.commit(cancelled)
            node.push(number, cancelled)
            await until(browser, "document.querySelector('.alarm .caution')")
            assert "Cancel pressed" in await see(browser, ".alarm")

            for one in (press, low):
                gone = changed(one, Transition.CLOSED, version=9, closed=True)
                [number] = await book.commit(gone)
                node.push(number, gone)
            await until(browser, f"{CARDS} === 0")
            empty = await see(browser, "#empty")
            assert "No alarms are standing" in empty
            assert "Last update" in empty

    asyncio.run(story())


def test_texts_come_as_text_whatever_is_in_them(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
        one = alarm(
            1,
            text={"en": evil, "zh": evil},
            place={"building": evil, "room": "javascript:alert(1)"},
            acked_at=1,
            acked_by=evil,
            comment=evil,
        )
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            node.health |= {
                "status": "degraded",
                "site": evil,
                "reasons": [{"code": evil, "message": evil, "remedy": evil}],
            }
            await book.commit(raised(one))
            await show(browser, board.port, "?lang=en", 1)
            assert evil in await see(browser, ".alarm h2")
            assert evil in await see(browser, "#health")
            assert await run(browser, "document.querySelectorAll('main img, main script').length") == 0
            assert await run(browser, "window.pwned === undefined")

    asyncio.run(story())


def test_a_board_that_lost_its_connection_says_so_and_does_not_look_calm(
    tmp_path: Path, browser: Browser
) -> None:
    async def story() -> None:
        port = free_port()
        async with Book(tmp_path) as book, FakeNode(tmp_path):
            async with web(tmp_path, port=port):
                await show(browser, port, "?lang=en", 0)
                assert "No alarms are standing" in await see(browser, "#empty")
                assert not await run(browser, "document.querySelector('#lost').checkVisibility()")
            await until(browser, "document.querySelector('#lost').checkVisibility()")
            assert "Connection lost" in await see(browser, "#lost")
            assert "not known" in await see(browser, "#empty")
            assert "⚠" in await run(browser, "document.title")
            await book.commit(raised(alarm(1)))
            async with web(tmp_path, port=port):
                await until(browser, f"{LIVE} && {CARDS} === 1")
                assert not await run(browser, "document.querySelector('#lost').checkVisibility()")
                assert await run(browser, "document.title") == "(1) 安邻 Anlin"

    asyncio.run(story())


def test_a_gateway_that_does_not_work_is_told_with_its_remedy_and_nothing_looks_calm(
    tmp_path: Path, browser: Browser
) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path) as node, web(tmp_path) as board:
            await node.stop()
            await show(browser, board.port, "?lang=zh", 0)
            told = await see(browser, "#health .failed")
            assert "网关未正常工作" in told
            assert "anlin run" in told
            assert "当前状况未知" in await see(browser, "#empty")
            async with FakeNode(tmp_path):
                await until(browser, "!document.querySelector('#health .failed')")
                assert "当前没有告警" in await see(browser, "#empty")

    asyncio.run(story())


def test_losses_of_the_last_day_are_a_notice(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        now = time.time_ns() // 1_000_000
        times = (now - 2 * 86_400_000, now - 3_600_000, now)
        gaps = [Gap(at, "bulk", 7, at, at, GapReason.BROKER_DROPPED) for at in times]
        async with Book(tmp_path) as book, FakeNode(tmp_path), web(tmp_path) as board:
            await book.lose(*gaps)
            await show(browser, board.port, "?lang=en", 0)
            await until(browser, "document.querySelector('#health .notice')")
            assert "within a day: 2 →" in await see(browser, "#health .notice")
            assert "No alarms are standing" in await see(browser, "#empty")

    asyncio.run(story())


def test_the_language_is_asked_for_or_remembered_or_configured(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path), web(tmp_path, language="zh") as board:
            await book.commit(raised(alarm(1)))
            await show(browser, board.port, "", 1)
            assert "烟感 sm0001 报警" in await see(browser, ".alarm")
            assert "3号楼 2单元 11层 1102室" in await see(browser, ".alarm")
            await asyncio.to_thread(browser.click, "#language")
            assert "Smoke at sm0001" in await see(browser, ".alarm")
            assert await run(browser, "document.documentElement.lang") == "en"
            await show(browser, board.port, "", 1)
            assert "Smoke at sm0001" in await see(browser, ".alarm")
            await show(browser, board.port, "?lang=zh", 1)
            assert "紧急" in await see(browser, ".alarm")

    asyncio.run(story())


def test_what_is_quiet_stands_apart_and_a_fold_names_its_members_on_a_phone(
    tmp_path: Path, browser: Browser
) -> None:
    async def story() -> None:
        silent = {"severity": Severity.MEDIUM, "kind": "charger", "ack_required": False}
        parts = [alarm(number, folded_into="F", **silent) for number in range(1, 40)]
        fold = alarm(
            50,
            id="F",
            kind="gateway",
            device="gw-1",
            severity=Severity.MEDIUM,
            text={"en": "39 ports are silent", "zh": "39个充电口失联"},
            members=tuple(part.key for part in parts),
        )
        shelved = alarm(60, severity=Severity.LOW, shelved_until=1_790_003_600_000, chattering=True)
        async with Book(tmp_path) as book, FakeNode(tmp_path), web(tmp_path) as board:
            await book.commit(*map(raised, [fold, *parts, shelved]))
            await asyncio.to_thread(browser.size, 360, 800)
            await show(browser, board.port, "?lang=en", 1)
            assert "39 ports are silent" in await see(browser, "#list")
            assert await run(browser, "document.querySelector('#total').textContent") == "1"
            assert "Not told by themselves: 40" in await see(browser, "#quiet")
            await run(browser, "document.querySelector('.members summary').click()")
            assert "Smoke sensor sm0039" in await see(browser, ".members")
            await run(browser, "document.querySelector('#quiet > summary').click()")
            await until(browser, f"{CARDS} === 41")
            apart = await see(browser, "#hushed")
            for words in ("Told together with others", "Shelved until", "Comes and goes"):
                assert words in apart
            assert await run(browser, "document.documentElement.scrollWidth") == 360
            assert await run(browser, LOW_CONTRAST) == []
            await asyncio.to_thread(browser.size, 1280, 800)

    asyncio.run(story())


def test_it_fits_a_phone_and_every_text_can_be_read_in_both_schemes(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        async with Book(tmp_path) as book, FakeNode(tmp_path) as node, web(tmp_path) as board:
            reason = {
                "code": "cloud_away",
                "message": "http://store.example:8086/api refused",
                "remedy": "wait",
            }
            broker = {"code": "embedded_broker", "message": "for demo", "remedy": "use Mosquitto"}
            node.health |= {"status": "degraded", "reasons": [reason, broker]}
            await book.commit(
                *(raised(alarm(n, severity=severity)) for n, severity in enumerate(Severity, 1)),
                raised(alarm(6, drill=True, late=True, occurrences=2, device="d" * 64)),
                raised(alarm(7, acked_at=1, acked_by="Wang", comment="on my way")),
            )
            for language in ("zh", "en"):
                for scheme in ("light", "dark"):
                    await asyncio.to_thread(browser.size, 360, 740, scheme)
                    await show(browser, board.port, f"?lang={language}", 7)
                    assert await run(browser, "document.documentElement.scrollWidth") == 360
                    assert await run(browser, LOW_CONTRAST) == []
            await asyncio.to_thread(browser.size, 1280, 800)

    asyncio.run(story())


def test_all_languages_have_the_same_words(tmp_path: Path, browser: Browser) -> None:
    async def story() -> None:
        async with Book(tmp_path), FakeNode(tmp_path), web(tmp_path) as board:
            await show(browser, board.port, "", 0)
            await run(
                browser,
                "void import('/static/words.js').then(({ REASONS, WORDS }) => {"
                " const keys = (tree) => Object.entries(tree).flatMap(([key, value]) => value instanceof Object"
                "   && typeof value !== 'function' ? keys(value).map((below) => `${key}.${below}`) : [key]);"
                " window.keys = [WORDS, REASONS].map((all) => Object.values(all).map((tree) => keys(tree).join(' ')));"
                "})",
            )
            await until(browser, "window.keys")
            for zh, en in await run(browser, "window.keys"):
                assert zh.split() == en.split()

    asyncio.run(story())


async def show(browser: Browser, port: int, query: str, cards: int) -> None:
    """Open the board and wait until it is live and knows the gateway's health."""
    await asyncio.to_thread(browser.open, f"http://127.0.0.1:{port}/{query}")
    await until(browser, f"{LIVE} && {CARDS} === {cards} && document.querySelector('#site').textContent")


async def until(browser: Browser, condition: str) -> None:
    await asyncio.to_thread(browser.until, condition)


async def run(browser: Browser, script: str) -> Any:
    return await asyncio.to_thread(browser.run, script)


async def see(browser: Browser, selector: str) -> str:
    return await asyncio.to_thread(browser.text, selector)
