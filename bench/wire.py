"""An MQTT 5 connection on a plain socket for programs that measure: many packets a write, no event loop."""

import socket
from collections.abc import Sequence
from select import select
from types import TracebackType
from typing import Self

import mqtt5

from tests.wire import cut

HOST = "127.0.0.1"
_RECEIVE = 256 * 1024


class WireError(Exception):
    """The broker refused or closed the connection."""


class Wire:
    """One connection; ``receive_max`` is how many messages of ours may wait for the broker's answer."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._out = bytearray()
        self._socket.sendall(mqtt5.ConnectPacket(client_id, clean_start=True, receive_max=4_096).write())
        answer = self._until_one()
        if (
            not isinstance(answer, mqtt5.ConnAckPacket)
            or answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS
        ):
            raise WireError(f"the broker answered CONNECT with {answer}")
        self.receive_max = answer.receive_max
        self._socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, packets: Sequence[bytes]) -> None:
        """Send what the socket takes now; the rest goes with `exchange`."""
        self._out += b"".join(packets)
        self._flush()

    def exchange(self, timeout_s: float) -> list[mqtt5.Packet]:
        """Wait at most so long until something comes, sending what is left; what came."""
        readable, writable, _ = select([self._socket], [self._socket] if self._out else [], [], timeout_s)
        if writable:
            self._flush()
        if not readable:
            return []
        data = self._socket.recv(_RECEIVE)
        if not data:
            raise WireError("the broker closed the connection")
        packets, self._rest = cut(self._rest + data)
        return packets

    def _flush(self) -> None:
        if self._out:
            try:
                del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                return

    def _until_one(self) -> mqtt5.Packet:
        while True:
            data = self._socket.recv(_RECEIVE)
            if not data:
                raise WireError("the broker closed the connection before CONNACK")
            packets, self._rest = cut(self._rest + data)
            if packets:
                return packets[0]
