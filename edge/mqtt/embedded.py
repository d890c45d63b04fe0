"""The broker that comes with Anlin: amqtt on 127.0.0.1, for demo and development only.

It deletes the sessions of anonymous clients when they go and does not deliver again what was not
acknowledged, so it does not keep Anlin's promise. A site runs Mosquitto (`deploy/mosquitto.conf`).
"""

import asyncio
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from amqtt.broker import Broker
from amqtt.errors import BrokerError

from edge.mqtt.link import LinkError

HOST = "127.0.0.1"
"""It listens nowhere else: everybody may publish."""

_SHUTDOWN_TIMEOUT_S = 2.0


class EmbeddedBrokerError(LinkError):
    """It could not start; the text says what to do."""


class _Steady(dict[str, Any]):
    """A dict that may change while it is walked: every walk is over what was there when it began."""

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(super().keys()))

    def items(self) -> Any:  # noqa: ANN401 - amqtt's own values
        """See `dict`."""
        return tuple(super().items())


class EmbeddedBroker:
    """``async with EmbeddedBroker(port) as broker``: a broker while the block runs, in its event loop."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        """Where it listens; 0 becomes a free port on entering."""
        self._broker: Broker | None = None

    async def __aenter__(self) -> Self:
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it reports every lost client as an error
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        # amqtt walks this table while other clients subscribe; a second client at the wrong moment breaks it.
        self._broker._subscriptions = _Steady(self._broker._subscriptions)  # noqa: SLF001
        try:
            await self._broker.start()
        except BrokerError as error:
            raise EmbeddedBrokerError(
                f"the embedded broker cannot listen on {HOST}:{self.port} ({error.__cause__ or error}):"
                " end what uses the port, or choose another mqtt.port"
            ) from error
        [server] = self._broker._servers.values()  # noqa: SLF001 - amqtt says nowhere else which free port it got
        [listening] = server.instance.sockets
        self.port = listening.getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._broker is not None:
            try:
                async with asyncio.timeout(_SHUTDOWN_TIMEOUT_S):
                    await self._broker.shutdown()
            except TimeoutError:
                logging.getLogger("anlin.mqtt").warning("the embedded broker did not end in time")
