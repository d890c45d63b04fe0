"""``python -m edge.bridge_process CONFIG``: the cloud bridge, as the node starts it.

Reads the journal read-only, keeps its positions with the node through the control socket, and ends when its
standard input ends, which is when the node has died. A slow or broken cloud cannot be felt in the node.
"""

import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import msgspec

from cloud_bridge.bridge import Bridge
from cloud_bridge.lines import Lines
from cloud_bridge.source import Feed, JournalUnavailableError, Status
from cloud_bridge.writer import CloudStore, StoreSettings
from devices.faults import ConfigurationError
from devices.readings import Address
from edge.checking import load_registry
from edge.control_client import SOCKET_NAME, ControlError, request
from edge.logs import configure
from edge.settings import Config
from edge.store.errors import JournalDamaged, JournalReplaced, StoreError
from edge.store.reader import JournalReader, PackedBatch
from edge.store.records import Gap
from edge.store.schema import FILE
from rules.alarms import AlarmChange
from rules.decisions import Input

log = logging.getLogger("anlin.bridge")

EXIT_SETTINGS = 2
EXIT_DAMAGED = 3
ANSWER_S = 10.0
NICENESS = 10
"""The node comes first: a backlog drains with what it leaves of the processor."""


class NodeLedger:
    """`cloud_bridge.source.Ledger` kept by the node."""

    def __init__(self, config: Config) -> None:
        self._socket = config.data_dir / SOCKET_NAME

    def position(self, feed: Feed) -> int:
        """See `Ledger`."""
        position: int = msgspec.json.decode(self._ask("position", feed=feed.value), type=int)
        return position

    def advance(self, feed: Feed, position: int) -> None:
        """See `Ledger`."""
        self._ask("advance", feed=feed.value, position=position)

    def dead_letter(self, feed: Feed, line: bytes, status: int, words: str) -> None:
        """See `Ledger`."""
        text = line.decode("utf-8", "replace")
        self._ask("dead_letter", feed=feed.value, line=text, status=status, words=words)

    def report(self, status: Status) -> None:
        """See `Ledger`."""
        self._ask("report", status=msgspec.to_builtins(status))

    def damaged(self, error: StoreError) -> NoReturn:
        """The node must know that the journal is damaged, unless it has replaced it already."""
        log.error("the journal is not what it was; the bridge begins anew", extra={"reason": str(error)})
        if isinstance(error, JournalDamaged):
            with suppress(JournalUnavailableError):
                self._ask("damaged", reason=str(error))
        raise SystemExit(EXIT_DAMAGED)

    def _ask(self, op: str, **arguments: object) -> msgspec.Raw:
        try:
            return request(self._socket, op, timeout_s=ANSWER_S, **arguments)
        except ControlError as error:
            raise JournalUnavailableError(str(error)) from error


class UnpackedBatch:
    """`cloud_bridge.source.JournalBatch`, decoded when its inputs are asked for."""

    def __init__(self, packed: PackedBatch, source: "JournalSource") -> None:
        self._packed = packed
        self._source = source

    @property
    def seq(self) -> int:
        """See `JournalBatch`."""
        return self._packed.seq

    @property
    def now(self) -> int:
        """See `JournalBatch`."""
        return self._packed.now

    @property
    def inputs(self) -> Sequence[Input]:
        """See `JournalBatch`."""
        with self._source.reading():
            return self._packed.inputs


class JournalSource:
    """`cloud_bridge.source.Source` over the read-only journal.

    ``damaged`` is told why the journal cannot be read any more; it ends this process, whose positions belong
    to that journal: the node begins a new one, and a new bridge.
    """

    def __init__(self, reader: JournalReader, damaged: Callable[[StoreError], NoReturn]) -> None:
        self._reader = reader
        self._damaged = damaged

    def readings_after(self, position: int, limit: int) -> Sequence[UnpackedBatch]:
        """See `Source`."""
        with self.reading():
            return [UnpackedBatch(packed, self) for packed in self._reader.packed_after(position, limit)]

    def alarm_changes_after(self, position: int, limit: int) -> Sequence[tuple[int, AlarmChange]]:
        """See `Source`."""
        with self.reading():
            return self._reader.changes_after(position, limit)

    def gaps_after(self, position: int, limit: int) -> Sequence[tuple[int, Gap]]:
        """See `Source`."""
        with self.reading():
            return self._reader.gaps_after(position, limit)

    def behind(self, feed: Feed, position: int) -> int:
        """See `Source`."""
        with self.reading():
            return self._reader.behind(feed.value, position)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raises `JournalUnavailableError` for what may be over soon."""
        try:
            yield
        except (JournalDamaged, JournalReplaced) as error:
            self._damaged(error)
        except StoreError as error:
            raise JournalUnavailableError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Forward until told to end; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config = Config.model_validate(json.loads(arguments[0]))
        configure(config.log.level, config.log.format)
        registry = load_registry(config)
        token = config.cloud.token()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS
    url = config.cloud.url
    if url is None:
        sys.stderr.write("cloud.url is not set: there is nothing to forward to\n")
        return EXIT_SETTINGS

    def place_of(address: Address) -> dict[str, str]:
        device = registry.device(address)
        return device.place if device is not None else {}

    cloud = config.cloud
    reader = JournalReader(config.data_dir / FILE)
    reader.open()
    ledger = NodeLedger(config)
    bridge = Bridge(
        JournalSource(reader, ledger.damaged),
        ledger,
        CloudStore(StoreSettings(url, cloud.org, cloud.bucket, token, cloud.gzip)),
        Lines(config.site, config.node, place_of, forward_activity=cloud.forward_activity),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: bridge.stop())
    threading.Thread(target=_end_with_parent, args=(bridge,), name="parent", daemon=True).start()
    os.nice(NICENESS)
    gc.collect()
    gc.freeze()  # what is here now stays: a fifth of the work for each point was looking through it
    bridge.run()
    return 0


def _end_with_parent(bridge: Bridge) -> None:
    sys.stdin.buffer.read()
    bridge.stop()


if __name__ == "__main__":
    sys.exit(main())
