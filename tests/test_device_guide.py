"""docs/devices.md: its examples are decoded, its tables are the kinds, and what it says is refused is."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from devices.decoding import Reason, Rejected, decode
from devices.kinds import KINDS
from devices.readings import Channel, address_of
from devices.topics import RESERVED, Route, Topics, Unroutable
from rules.decisions import Order

NOW = 1_790_000_000_500
GUIDE = (Path(__file__).parents[1] / "docs" / "devices.md").read_text("utf-8")
SPOKEN = re.findall(r"^(community/\S+)\n(.+)$", GUIDE, re.MULTILINE)
REFUSED = re.findall(r"^\| `([a-z]+/\S+)` \| `(.+)` \| `(\w+)` \|$", GUIDE, re.MULTILINE)
ON_WIRE = {name: kind for name, kind in KINDS.items() if kind.on_wire}
TOPICS = Topics("community", "c1")


def chapter(kind: str) -> str:
    return GUIDE.split(f"\n### {kind}\n")[1].split("\n## ")[0].split("\n### ")[0]


def _range(shape: dict[str, float]) -> str:
    if "maximum" not in shape:
        return f"{shape['minimum']} or more"
    return f"{shape['minimum']}–{shape['maximum']}"


def row(kind: str, name: str) -> str:
    found = re.search(rf"^\| `{name}` \|.*$", chapter(kind), re.MULTILINE)
    assert found is not None, f"{kind} has no row for {name}"
    return found[0]


def test_every_kind_has_a_name_on_the_board_in_both_languages() -> None:
    words = (Path(__file__).parents[1] / "edge/web/static/words.js").read_text("utf-8")
    named = [
        set(re.findall(r"(\w+): \"", table))
        for table in re.findall(r"^    kind: \{(.+)\},$", words, re.MULTILINE)
    ]
    assert named == [set(KINDS)] * 2


@pytest.mark.parametrize(("topic", "payload"), SPOKEN, ids=lambda text: str(text)[:50])
def test_what_the_guide_lets_a_device_say_is_understood(topic: str, payload: str) -> None:
    route = TOPICS.route(topic)
    assert isinstance(route, Route)
    reading = decode(route, payload.encode(), NOW)
    assert reading.values
    assert (reading.flags, reading.extra) == (0, None)


def test_the_guide_shows_every_topic_of_a_device() -> None:
    routes = [TOPICS.route(topic) for topic, _ in SPOKEN]
    assert {route.channel for route in routes if isinstance(route, Route)} == set(Channel)


@pytest.mark.parametrize(("topic", "payload", "reason"), REFUSED)
def test_what_the_guide_says_to_be_refused_is(topic: str, payload: str, reason: str) -> None:
    route = TOPICS.route(f"community/c1/{topic}")
    if isinstance(route, Unroutable):
        assert route.reason == reason
        return
    assert isinstance(route, Route)
    with pytest.raises(Rejected) as caught:
        decode(route, payload.encode(), NOW)
    assert caught.value.reason == reason


def test_the_guide_names_every_reason_of_a_refusal() -> None:
    told = GUIDE.split("\n## What is wrong with a message\n")[1].split("\n## ")[0]
    assert [reason for reason in Reason if f"`{reason}`" not in told] == []


def test_the_guide_has_a_chapter_for_every_kind() -> None:
    assert set(re.findall(r"^### (\w+)$", GUIDE, re.MULTILINE)) == set(ON_WIRE)
    assert all(f"`{name}`" in GUIDE for name in RESERVED)


@pytest.mark.parametrize("name", ON_WIRE)
def test_every_point_stands_with_its_range_or_its_words(name: str) -> None:
    kind = ON_WIRE[name]
    structs = [kind.telemetry] if kind.event is None else [kind.telemetry, kind.event]
    known = set()
    for struct in structs:
        shapes = msgspec.json.schema(struct)["$defs"]
        for field, written in shapes[struct.__name__]["properties"].items():
            known.add(field)
            shape = shapes[written["$ref"].rpartition("/")[2]] if "$ref" in written else written
            line = row(name, field)
            if shape.get("type") in {"number", "integer"}:
                assert _range(shape) in line
            assert f" {shape.get('unit', '')}" in line
            assert [word for word in shape.get("enum", ()) if f"`{word}`" not in line] == []
    assert set(re.findall(r"^\| `(\w+)` \|", chapter(name), re.MULTILINE)) == known


@pytest.mark.parametrize("name", ON_WIRE)
def test_every_command_and_argument_stands(name: str) -> None:
    if name == "broadcast":
        assert "same points and commands as a siren" in chapter(name)
        assert ON_WIRE["broadcast"].commands == ON_WIRE["siren"].commands
        return
    words = {word for command, one in ON_WIRE[name].commands.items() for word in (command, *one.args)}
    assert [word for word in words if f"`{word}`" not in chapter(name)] == []


def test_the_order_of_the_guide_is_one() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    said = json.loads(block)
    assert said["args"].keys() == KINDS["elevator"].commands[said["command"]].args.keys()
    lift = address_of("c1", "elevator", "lift-3-2-a")
    order = Order(said["id"], "", lift, said["command"], said["args"], NOW, said["expires_at"])
    assert json.loads(order.wire()) == said
