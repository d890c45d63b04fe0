"""Section 1 of the contract: what is subscribed to, and what a topic names."""

import pytest

from devices.kinds import KINDS
from devices.readings import Channel, address_of, parts_of
from devices.topics import FOREIGN, Foreign, Lane, Route, Topics, Unroutable

TOPICS = Topics("community", "c1")


def matches(pattern: str, topic: str) -> bool:
    wanted, given = pattern.split("/"), topic.split("/")
    return len(wanted) == len(given) and all(
        one in ("+", two) for one, two in zip(wanted, given, strict=True)
    )


def test_the_two_sessions_never_overlap_and_nothing_asks_for_everything() -> None:
    safety, bulk = TOPICS.filters(Lane.SAFETY), TOPICS.filters(Lane.BULK)
    assert not any("#" in each for each in safety + bulk)
    for kind in KINDS.values():
        for what in ("telemetry", "event", "status", "command/result"):
            topic = f"community/c1/{kind.name}/d1/{what}"
            hits = [each for each in safety + bulk if matches(each, topic)]
            assert len(hits) == (1 if kind.on_wire or what != "telemetry" else 0), topic


@pytest.mark.parametrize("what", ["event", "status", "command/result"])
def test_what_saves_people_is_in_the_safety_session(what: str) -> None:
    assert f"community/c1/+/+/{what}" in TOPICS.filters(Lane.SAFETY)
    assert "community/c1/smoke/+/telemetry" in TOPICS.filters(Lane.SAFETY)


@pytest.mark.parametrize(
    ("topic", "channel"),
    [
        ("community/c1/charger/shed1-p07/telemetry", Channel.TELEMETRY),
        ("community/c1/button/bt0042/event", Channel.EVENT),
        ("community/c1/smoke/sm.0007_a/status", Channel.STATUS),
        ("community/c1/elevator/lift-3-2-a/command/result", Channel.RESULT),
    ],
)
def test_a_good_topic_names_a_device_and_a_channel(topic: str, channel: Channel) -> None:
    route = TOPICS.route(topic)
    assert isinstance(route, Route)
    assert route.channel is channel
    _, site, kind, device, *_ = topic.split("/")
    assert route.address == address_of(site, kind, device)
    assert parts_of(route.address) == (site, kind, device)


@pytest.mark.parametrize(
    "topic",
    [
        "community/c1/charger/p1",
        "community/c1/charger/p1/telemetry/more",
        "community/c1/charger/p1/command",
        "community/c2/charger/p1/telemetry",
        "other/c1/charger/p1/telemetry",
        "community/c1/gateway/gw-1/status",
        "community/c1/alarm/x/status",
        "community/c1/telemetry",
        "",
        "/",
    ],
)
def test_what_matches_no_filter_of_ours_is_foreign(topic: str) -> None:
    assert TOPICS.route(topic) is FOREIGN


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("community/c1/toaster/t1/telemetry", "unknown_kind"),
        ("community/c1/charger/p%20/telemetry", "bad_topic"),
        ("community/c1/charger//telemetry", "bad_topic"),
        (f"community/c1/charger/{'x' * 65}/telemetry", "bad_topic"),
        ("community/c1/charger/p1/event", "no_events"),
        ("community/c1/充电/p1/status", "bad_topic"),
    ],
)
def test_what_matches_but_names_nothing_is_refused_with_a_reason(topic: str, reason: str) -> None:
    route = TOPICS.route(topic)
    assert isinstance(route, Unroutable)
    assert route.reason == reason


def test_the_cache_of_routes_is_bounded_and_holds_no_bad_topics() -> None:
    topics = Topics("community", "c1", cache_limit=100)
    for number in range(1_000):
        assert isinstance(topics.route(f"community/c1/charger/p{number}/telemetry"), Route)
        assert isinstance(topics.route(f"community/c1/toaster/p{number}/telemetry"), Unroutable)
        assert isinstance(topics.route(f"x/{number}"), Foreign)
    assert len(topics._cache) <= 100  # noqa: SLF001 - its size is the promise
    again = topics.route("community/c1/charger/p999/telemetry")
    assert again is topics.route("community/c1/charger/p999/telemetry")


def test_two_kinds_may_share_a_device_name() -> None:
    one, two = TOPICS.route("community/c1/siren/d1/status"), TOPICS.route("community/c1/smoke/d1/status")
    assert isinstance(one, Route)
    assert isinstance(two, Route)
    assert one.address != two.address
