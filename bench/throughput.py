"""500,000 messages flat out: processor time, what a bare loop takes for the same, and whether all arrived."""

from pathlib import Path

from bench.figures import Figure, Tell, at_most, exactly
from bench.world import Scale, counting, flood, until, world
from tests.servers import Mosquitto

NAME = "throughput"


def run(folder: Path, scale: Scale, tell: Tell, profile: Path | None) -> None:
    """Measure the gateway, then the yardstick, on fresh brokers, with the same messages."""
    count = scale.messages
    millions = count / 1e6

    def say(name: str, value: float, unit: str) -> None:
        tell(Figure(NAME, name, value, unit))

    with world(folder / "gateway", profile) as here:
        gateway = here.gateway
        gateway.start()
        gateway.ready()
        before = gateway.cpu_s()
        published = here.publish(count)
        committed_at = until(lambda: gateway.committed() >= count, "all messages in the journal", every_s=0.1)
        behind = here.waiting("readings")
        here.settle()
        after = gateway.cpu_s()
        commits = gateway.commits()
        peaks = gateway.memory().peaks
        gateway.stop()
        verdict = here.compared(store=True)

    spent = {role: after[role] - before.get(role, 0.0) for role in after}
    total = sum(spent.values()) / millions
    began, ended = min(each.began for each in published), max(each.ended for each in published)
    say("payload", sum(each.payload_bytes for each in published) / count, "bytes/message")
    say("published", count / (ended - began), "messages/s")
    say("committed", count / (committed_at - began), "messages/s")
    say("not in the store yet when all was committed", behind, "points")
    say("committed together", count / commits, "messages/commit")
    tell(Figure(NAME, "gateway", total, "CPU s/million messages", at_most(12)))
    tell(Figure(NAME, "gateway, with the shipped packs", total, "CPU s/million messages", at_most(15)))
    for role, seconds in sorted(spent.items()):
        say(f"of these {role}", seconds / millions, "CPU s/million messages")

    say("acknowledged by the broker", verdict.acknowledged, "messages")
    tell(Figure(NAME, "not in the journal", verdict.missing_in_journal, "messages", exactly(0)))
    tell(Figure(NAME, "not in the store", verdict.missing_in_store or 0, "messages", exactly(0)))
    say("twice in the journal", verdict.repeated, "messages")
    tell(Figure(NAME, "node at its largest", peaks["node"] / 1e6, "MB", at_most(120)))
    largest = (peaks["node"] + peaks["web"]) / 1e6
    tell(Figure(NAME, "node and web at their largest", largest, "MB", at_most(200)))
    say("bridge at its largest", peaks["bridge"] / 1e6, "MB")

    cpu_s: list[float] = []
    yardstick = folder / "yardstick"
    yardstick.mkdir()
    with Mosquitto.as_shipped() as broker, counting(broker.port, count, cpu_s):
        flood(broker.port, yardstick, count)
    bare = cpu_s[0] / millions
    say("bare aiomqtt loop that only counts", bare, "CPU s/million messages")
    tell(Figure(NAME, "gateway to bare aiomqtt loop", total / bare, "ratio", at_most(0.25)))
