"""What the gateway feels: every second it looks at itself, tells its own engine what has changed, and the broker.

The parts of the node say what is wrong with them (`edge.health.Troubles`). Here are the looks that no part can take
of itself: does the engine fail or fall behind, does what should leave leave, is the way from ingest to commit open.
A reason that came or went is told to the engine at once, which raises and clears its alarm; the figures go into the
journal every minute. Must not: keep a reading waiting; whoever looks every second looks at a few numbers only.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from devices.readings import address_of
from devices.topics import Lane
from edge.condition import Condition
from edge.health import ALARMING, Code, Lately, Reason
from edge.mqtt.link import NotConnected, PublishRefusedError
from edge.node import Node
from rules.engine import Engine

log = logging.getLogger("anlin.vitals")

LOOK_S = 1.0
HEALTH_S = 60.0
"""Between two reports without news."""

UNDECIDED_MS = 60_000
"""A failure of the engine is a reason for so long after the last one; its alarm waits for a person."""

OVERDUE_MS = 30_000
"""A deadline that is so late is not taken any more. Far above the 10 s for which a backlog may hold it back."""

ORDERS_REFUSED_MS = 600_000
"""An order that the broker refused is a reason for so long."""

STUCK_S = 10.0
"""While connected, something must leave within it."""

STALL_S = 10.0
"""A commit that takes longer and has not been found to fail is one that hangs unnoticed."""


class Vitals:
    """Looks at ``node`` and at its ``condition``, and tells. Looks that failed themselves are counted by `Troubles`."""

    def __init__(self, node: Node, condition: Condition) -> None:
        self._node = node
        self._condition = condition
        self._loop = asyncio.get_running_loop()
        self._address = address_of(node.who.site, "gateway", node.who.node)
        self._undecided = Lately(node.intake.counts["undecided"], UNDECIDED_MS)
        self._orders_refused = Lately(node.outbox.orders_refused, ORDERS_REFUSED_MS)
        self._settled = -1
        self._settled_at = 0.0
        self._told_at: float | None = None
        self._tried_at = 0.0
        self._refusal: str | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="look")
            tasks.create_task(self._publish(), name="publish-health")

    async def _look(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # the task's top: what looks after the node must not end it
                self._node.troubles.failures["vitals"] += 1
                log.exception("a look at the gateway failed")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """One look; tells the engine what has changed since."""
        self._look_at_deciding()
        self._look_at_publishing()
        reasons = self._condition.reasons()
        now = self._loop.time()
        changed = self._differs(reasons)
        if changed or self._told_at is None or now - self._told_at >= HEALTH_S:
            self._told_at = now
            self._node.feel(self._condition.figures(reasons))
        if changed:
            self._news.set()

    def _differs(self, reasons: Sequence[Reason]) -> bool:
        """Whether the engine believes something else: it is asked, as after a rebuild it has forgotten the newest."""
        device = self._node.intake.state.devices.get(self._address)
        if device is None:
            return True
        wrong = {each.code for each in reasons}
        return any(device.points.get(code) is not (code in wrong) for code in ALARMING)

    # Deciding

    def _look_at_deciding(self) -> None:
        node = self._node
        if self._undecided.grew(node.intake.counts["undecided"], node.clock.now_ms()):
            node.troubles.say(Code.CANNOT_DECIDE, f"decoding or the engine failed: {node.intake.undecided}")
        elif (late_ms := self._overdue_ms()) > OVERDUE_MS:
            node.troubles.say(
                Code.CANNOT_DECIDE, f"a delay has run out {late_ms // 1000} s ago and is not taken"
            )
        else:
            node.troubles.over(Code.CANNOT_DECIDE)

    def _overdue_ms(self) -> int:
        """How late the earliest deadline is. Held back for a reason that is known, it is not late."""
        node = self._node
        due = Engine.next_deadline(node.intake.state)
        if due is None or node.store_error is not None or node.lanes_up != set(Lane):
            return 0
        return node.clock.now_ms() - due

    # Publishing

    def _look_at_publishing(self) -> None:
        node, now = self._node, self._loop.time()
        outbox = node.outbox
        if Lane.SAFETY not in node.lanes_up or not len(outbox) or outbox.settled != self._settled:
            self._settled, self._settled_at = outbox.settled, now
        refusal = outbox.denied or self._refusal
        if self._orders_refused.grew(outbox.orders_refused, node.clock.now_ms()):
            refusal = refusal or "an order"
        if refusal is not None:
            node.troubles.say(Code.CANNOT_PUBLISH, f"the broker refuses {refusal}")
            if outbox.denied is not None and now - self._tried_at >= HEALTH_S:
                self._tried_at = now
                outbox.set_right()  # else nobody would find out that it is permitted again
        elif now - self._settled_at >= STUCK_S:
            node.troubles.say(
                Code.CANNOT_PUBLISH, f"{len(outbox)} publications wait and the broker acknowledges none"
            )
        else:
            node.troubles.over(Code.CANNOT_PUBLISH)

    async def _publish(self) -> None:
        """Health onto its topic, every minute and when a reason has come or gone."""
        topic = self._node.who.topics.gateway(self._node.who.node, "health")
        while True:
            await self._node.ingest.online.wait()
            self._news.clear()
            payload = msgspec.json.encode(self._condition.health())
            try:
                await self._node.links[Lane.SAFETY].publish(topic, payload, retain=True)
                self._refusal = None
            except NotConnected:
                log.debug("health was not published: no connection")
            except PublishRefusedError as error:
                self._refusal = f"{topic}: {error}"
                log.error("the broker refuses a publication", extra={"topic": topic, "reason": str(error)})  # noqa: TRY400
            await asyncio.sleep(LOOK_S)
            try:
                async with asyncio.timeout(HEALTH_S - LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    # The watchdog's question

    def blocked(self) -> str | None:
        """Why no message can pass from ingest to commit and out again, where a restart may help; else None.

        A store that is known to fail, a broker that is away or refuses: those are said, worked around, and a
        restart would only take away what still works.
        """
        node = self._node
        if not node.journal.alive:
            return "the journal's writer has ended"
        if self._overdue_ms() > OVERDUE_MS:
            return "deadlines are not taken"
        since = node.commits.writing_since
        if node.store_error is None and since is not None and self._loop.time() - since > STALL_S:
            return f"a commit has been under way for {self._loop.time() - since:.0f} s"
        return None
