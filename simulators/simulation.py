"""A fleet on the wire, in real time or faster: what it says is published, what it is told is obeyed."""

import asyncio
import contextlib
import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from devices.readings import Channel, Scalar
from simulators.causes import Saying
from simulators.connections import Broker, Connection, Parcel
from simulators.device import Happening
from simulators.fleet import Fleet, Member
from simulators.orders import Orders, read_command
from simulators.verdicts import Ordered

OWN_CONNECTIONS = 1_000
"""Up to so many devices have a connection, and with it a will, of their own."""
POOL = 32
"""Connections that a larger fleet shares."""
FILES_A_CONNECTION = 3
"""A socket, and the pair with which paho-mqtt wakes itself."""
FILES_SPARE = 128

START_S = 10.0
"""The story begins when all devices are connected, at the latest after this time."""
RESOLUTION_S = 0.005
LONGEST_WAIT_S = 60.0

_ENCODER = msgspec.json.Encoder()


class Simulation:
    """Runs a `Fleet` against a `Broker`. `log` takes a line about connections now and then."""

    def __init__(
        self,
        fleet: Fleet,
        broker: Broker,
        log: Callable[[str], None],
        *,
        own_connections: int = OWN_CONNECTIONS,
        ordered: Callable[[Ordered], None] | None = None,
    ) -> None:
        """``ordered`` hears of every order that reaches a device for the first time."""
        self.fleet = fleet
        self.sent = 0
        """Messages that the broker has acknowledged."""
        self.online = 0
        """Devices that are connected."""
        self.commands = 0
        self.began = asyncio.Event()
        """The devices' time has begun."""
        self._broker = broker
        self._log = log
        self._ordered = ordered
        self._own_connections = own_connections
        self._orders = {member.address: Orders() for member in fleet.members}
        self._connections: list[Connection] = []
        self._by_member: list[Connection] = []
        self._up: set[int] = set()
        self._event_number = 0
        self._all_up = asyncio.Event()
        self._outage = False
        self._poked = asyncio.Event()
        self._zero = 0.0

    @property
    def dropped(self) -> int:
        """Messages lost because the broker was away or slow."""
        return sum(connection.dropped for connection in self._connections)

    @property
    def story_s(self) -> float:
        """The devices' time."""
        if not self.began.is_set():
            return 0.0
        return (asyncio.get_running_loop().time() - self._zero) * self.fleet.speed

    async def run(self) -> None:
        """Connect all devices, let their time pass until cancelled, then switch them off."""
        self._connect()
        async with asyncio.TaskGroup() as tasks:
            for number, connection in enumerate(self._connections):
                tasks.create_task(connection.run(), name=f"simulated-connection-{number}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    await self._all_up.wait()
            await self._drive()

    def _connect(self) -> None:
        members = self.fleet.members
        own = min(self._own_connections, _connections_possible())
        if len(members) <= own:
            shares: list[Sequence[Member]] = [[member] for member in members]
        else:
            shares = [members[start::POOL] for start in range(min(POOL, len(members)))]
            self._log(
                f"{len(members)} devices share {len(shares)} connections (more than {own}), "
                "so they have no wills: ended by force, they stay online on the broker"
            )
        for number, share in enumerate(shares):
            name = str(share[0].address).replace("/", "-") if len(share) == 1 else f"pool-{number}"
            identifier = f"sim-{self.fleet.site}-{name}"
            self._connections.append(Connection(share, self._broker, identifier, self))
        owners = {member.number: self._connections[n] for n, share in enumerate(shares) for member in share}
        self._by_member = [owners[member.number] for member in members]
        if not members:
            self._all_up.set()

    # --- time ---------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        self._zero = asyncio.get_running_loop().time()
        self.began.set()
        while True:
            self._pass_time()
            self._poked.clear()
            wait_s = (self.fleet.due_s - self.story_s) / self.fleet.speed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LONGEST_WAIT_S, max(RESOLUTION_S, wait_s))):
                    await self._poked.wait()

    def _pass_time(self) -> None:
        """Bring the fleet to the present and send what it says."""
        for member, message in self.fleet.advance_to(self.story_s):
            self._say(member, message.channel, dict(message.payload), message.at_s)

    def _say(self, member: Member, channel: Channel, payload: dict[str, object], at_s: float) -> None:
        now_s = self.story_s
        ago_s = max(0.0, now_s - at_s) / self.fleet.speed
        payload.setdefault("ts", round((time.time() - ago_s) * 1_000) + member.line.skew_ms(now_s))
        event = channel is Channel.EVENT
        if event:
            self._event_number += 1
            payload.setdefault("id", str(self._event_number))
        topic = self._broker.topic(member.address, "event" if event else "telemetry")
        send = self._by_member[member.number].send
        for later_s, body in member.line.carry(_ENCODER.encode(payload), now_s):
            parcel = Parcel(topic, body, lasting=event)
            if later_s:
                asyncio.get_running_loop().call_later(later_s / self.fleet.speed, send, parcel)
            else:
                send(parcel)

    # --- what happens to devices --------------------------------------------------------------------------

    def happen(self, member: Member, happening: Happening) -> None:
        """Let something happen to a device now."""
        self._pass_time()
        if happening.name == "flapping":
            return  # its turns are causes of their own
        was_offline = member.device.offline
        self.fleet.happen(member, happening)
        connection = self._by_member[member.number]
        if member.device.offline:
            connection.break_off(member)
            until_s = member.device.offline_until_s
            if math.isfinite(until_s):
                wait_s = (until_s - member.device.now_s) / self.fleet.speed
                asyncio.get_running_loop().call_later(wait_s, self._resume, member, until_s)
        elif was_offline:
            connection.resume(member)
        self._poked.set()

    def set(self, member: Member, points: Mapping[str, Scalar | None]) -> None:
        """Let points of a device say so from now on."""
        self._pass_time()
        self.fleet.set(member, points)
        self._poked.set()

    def unset(self, member: Member, names: Sequence[str] | None) -> None:
        """Let points of a device, or all, be measured again."""
        self._pass_time()
        self.fleet.unset(member, names)
        self._poked.set()

    def say_exactly(self, member: Member, saying: Saying) -> None:
        """Send one message as it is."""
        if saying.raw is None:
            self._say(member, saying.channel, dict(saying.fields), self.story_s)
            return
        topic = self._broker.topic(member.address, saying.channel.name.lower())
        status = saying.channel is Channel.STATUS
        self._by_member[member.number].send(Parcel(topic, saying.raw, retain=status))

    def obey(self, member: Member, command: str, args: Mapping[str, Scalar]) -> Ordered:
        """A person gives a device a command at its panel."""
        self._pass_time()
        outcome = self.fleet.obey(member, command, args)
        self._poked.set()
        name = member.placement.id
        return Ordered(self.story_s, name, command, args, outcome.status.value, outcome.detail)

    def load(self, rate: float | None) -> None:
        """From now on all together say so much; None: as at the beginning."""
        self._pass_time()
        self.fleet.load(rate)
        self._poked.set()

    def lose_broker(self, *, back: bool) -> None:
        """The broker is out of reach for every device, or in reach again."""
        for member in self.fleet.members:
            if member.device.offline:
                continue
            if back:
                self._by_member[member.number].resume(member)
            else:
                self._by_member[member.number].break_off(member)

    def _resume(self, member: Member, until_s: float) -> None:
        if member.device.offline_until_s == until_s:  # nothing else has happened to it since
            member.device.offline_until_s = -math.inf
            if member.device.powered:
                self._by_member[member.number].resume(member)

    # --- what connections tell ----------------------------------------------------------------------------

    def connected(self, members: Sequence[Member]) -> None:
        """See `Listener`."""
        self._up.update(member.number for member in members)
        self.online = len(self._up)
        self._pass_time()
        for member in members:
            self.fleet.introduce(member)
        if self.online == len(self.fleet.members):
            if self._outage:
                self._log(f"all {self.online} devices are connected again")
            self._outage = False
            self._all_up.set()
        self._poked.set()

    def disconnected(self, members: Sequence[Member], reason: str) -> None:
        """See `Listener`."""
        self._up.difference_update(member.number for member in members)
        self.online = len(self._up)
        wanted = any(not member.device.offline for member in members)
        if wanted and not self._outage:
            self._outage = True
            self._log(f"connection lost ({reason}); trying again")

    def commanded(self, member: Member, payload: bytes) -> None:
        """See `Listener`."""
        self.commands += 1
        if member.device.offline:
            return
        self._pass_time()
        orders, order = self._orders[member.address], read_command(payload)
        fresh = order is not None and orders.is_new(order)
        answer = orders.answer(
            payload, time.time() * 1_000, lambda command, args: self.fleet.obey(member, command, args)
        )
        if answer is not None:
            topic = self._broker.topic(member.address, "command/result")
            self._by_member[member.number].send(Parcel(topic, answer))
            if fresh and order is not None and self._ordered is not None:
                told = msgspec.json.decode(answer, type=dict[str, str])
                name, args = member.placement.id, order.args or {}
                self._ordered(
                    Ordered(self.story_s, name, order.command, args, told["status"], told["detail"])
                )
        self._poked.set()

    def published(self, parcel: Parcel) -> None:
        """See `Listener`."""
        del parcel  # only counted
        self.sent += 1


def _connections_possible() -> int:
    """How many connections the limit of open files allows, after raising it as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(1, (soft - FILES_SPARE) // FILES_A_CONNECTION)
