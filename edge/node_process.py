"""``anlin run``: the node with its children, from a checked configuration to a clean end."""

import asyncio
import errno
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.broker.broker_watch import NOTICES
from edge.broker.safety_first import SafetyFirst
from edge.checking import engine_of, load_registry, load_rules
from edge.children import Child, answers_http
from edge.clock import Clock
from edge.condition import Condition
from edge.control import ControlServer
from edge.control_client import SOCKET_NAME
from edge.desks.desk import Desk
from edge.desks.rule_desk import RuleDesk
from edge.error_words import told
from edge.historian import Historian
from edge.history.settings import HistorySettings
from edge.mqtt.five import mqtt5_link
from edge.mqtt.link import Link, LinkRefused, LinkSettings, Tls, Will
from edge.mqtt.three import mqtt311_link
from edge.node import Identity, Node
from edge.refusals import Refusals
from edge.rulebook import at_start, compiled
from edge.rulewatch import RuleWatch
from edge.settings import Config
from edge.store.errors import JournalDamaged, ReadFailed, StoreUnusable, StoreUnwritable
from edge.store.journal import Journal
from edge.store.lock import DirectoryLock
from edge.store.schema import FILE
from edge.vitals import Vitals
from edge.watchdog import Notifier, Watchdog
from edge.web.settings import WebSettings

log = logging.getLogger("anlin")

EXIT_UNUSABLE = 2
EXIT_REFUSED = 4

AGAIN_S = 5.0
"""Between attempts at what a bad disk refuses at the start."""

SWITCH_INTERVAL_S = 0.0002
"""How long the writer thread may keep the interpreter from the event loop."""


GC_YOUNG = 200_000
"""New objects before the collector looks; a message makes a few, and none of them in a cycle."""


def main(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Raises `ConfigurationError` for a faulty registry, and for faulty rules where none are in force yet.
    """
    registry = load_registry(config)
    if not (config.data_dir / FILE).exists():
        load_rules(config)  # nothing is made for a gateway that cannot start
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        asyncio.run(_run(config, registry))
    except (StoreUnusable, LinkRefused, OSError, BaseExceptionGroup) as error:
        cause = _first(error)
        if not isinstance(cause, StoreUnusable | LinkRefused | OSError):
            raise
        sys.stderr.write(f"anlin: {told(cause, config.language)}\n")
        return EXIT_REFUSED if isinstance(cause, LinkRefused) else EXIT_UNUSABLE
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run(config: Config, registry: Registry) -> None:
    async with AsyncExitStack() as stack:
        if config.mqtt.embedded:
            with DirectoryLock(config.data_dir):
                pass  # the port that a second gateway finds taken is not what is wrong
            from edge.mqtt.embedded import EmbeddedBroker  # noqa: PLC0415 - a site never loads it

            await stack.enter_async_context(EmbeddedBroker(config.mqtt.port))
            log.info(
                "the embedded broker is for demos and development: it keeps no session and delivers nothing again;"
                " a property runs Mosquitto with deploy/mosquitto.conf"
            )
        notifier = Notifier.from_environment(os.environ)
        stack.callback(notifier.close)
        await _serve(config, registry, notifier)


async def _serve(config: Config, registry: Registry, notifier: Notifier) -> None:
    max_bytes, forwarding = config.store.journal_max_bytes, config.cloud.url is not None
    history = config.history.enabled
    async with Journal(
        config.data_dir, max_bytes=max_bytes, forwarding=forwarding, history=history
    ) as journal:
        make_engine = partial(engine_of, config, registry)

        def make() -> Node:
            rules, kept, unreadable = at_start(config, journal.rules(), clock.now_ms())
            if unreadable is not None:
                log.error(
                    "the rules in force cannot be read by this version; those on disk are taken",
                    extra={"reason": unreadable},
                )
            return Node(who, make_engine(rules), registry, journal, clock, kept)

        topics = Topics(config.mqtt.prefix, config.site)
        who = Identity(config.site, config.node, topics, config.store.commit_ms, config.mqtt.embedded)
        clock = Clock()
        node = await _node(make, journal, clock)
        watch = RuleWatch(node, config)
        children = _children(config)
        refusals = Refusals(node, node.positions)
        historian = Historian(HistorySettings.of(config.data_dir, config.history), node) if history else None
        condition = Condition(
            node,
            children,
            history=historian,
            version=version("anlin"),
            embedded_broker=config.mqtt.embedded,
        )
        rule_desk = RuleDesk(node, partial(compiled, config), make_engine, watch)
        desk = Desk(node, registry, condition, refusals=refusals, rules=rule_desk)
        control = ControlServer(config.data_dir / SOCKET_NAME, desk.answer)
        node.attach(_links(config, topics, node), control)
        vitals = Vitals(node, condition)
        watchdog = Watchdog(notifier, vitals.blocked, condition.summary)

        def stop() -> None:
            watchdog.stopping()
            node.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG, 20, 100)
        log.info("anlin is up", extra={"site": config.site, "node": config.node, "replayed": node.replayed})
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(_listen(control), name="control")]
            beside += [group.create_task(child.run(), name=child.name) for child in children]
            beside.append(group.create_task(vitals.run(), name="vitals"))
            beside.append(group.create_task(watchdog.run(), name="watchdog"))
            beside.append(group.create_task(refusals.run(), name="refusals"))
            beside.append(group.create_task(watch.run(), name="rules on disk"))
            if historian is not None:
                beside.append(group.create_task(historian.run(), name="history"))
            await node.run()
            for task in beside:
                task.cancel()


async def _node(make: Callable[[], Node], journal: Journal, clock: Clock) -> Node:
    """The node on its store; waits where the store can just now not be read: to end would help nobody.

    A damaged journal is mended, once: a second time it is the disk.
    """
    damaged = journal.damage
    mended = False
    while True:
        if damaged is not None and not mended:
            log.error("the journal is damaged; what can be read is carried over", extra={"reason": damaged})
            await journal.mend(clock.now_ms())
            mended = True
        try:
            return make()
        except JournalDamaged as error:
            if mended:
                raise StoreUnusable(f"{error}: replace the disk, or set another data_dir") from error
            damaged = str(error)
        except (ReadFailed, StoreUnwritable) as error:
            log.error(  # noqa: TRY400 - the remedy is in it, the traceback helps nobody
                "nothing is watched: the store cannot be read; tried again", extra={"reason": str(error)}
            )
            await asyncio.sleep(AGAIN_S)


async def _listen(control: ControlServer) -> None:
    """Serve the control socket; on a disk that takes no file the alarms go on without it."""
    while True:
        try:
            await control.run()
        except OSError as error:
            cause = error if error.errno is not None else error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in (errno.EROFS, errno.ENOSPC, errno.EIO):
                raise
            log.error(  # noqa: TRY400 - as above
                "no control socket: the board and the command line see nothing", extra={"reason": str(error)}
            )
            await asyncio.sleep(AGAIN_S)


def _children(config: Config) -> Sequence[Child]:
    children = [
        Child(
            "web",
            WebSettings(
                data_dir=str(config.data_dir),
                site=config.site,
                host=config.http.host,
                port=config.http.port,
                language=config.language,
            ).command(),
            partial(answers_http, config.http.host, config.http.port) if config.http.port else None,
        )
    ]
    if config.cloud.url is not None:
        settings = json.dumps(config.model_dump(mode="json"))
        children.append(Child("bridge", (sys.executable, "-m", "edge.bridge_process", settings)))
    return children


def _links(config: Config, topics: Topics, node: Node) -> dict[Lane, Link]:
    mqtt = config.mqtt
    tls = Tls(mqtt.tls.ca, mqtt.tls.cert, mqtt.tls.key) if mqtt.tls.on else None
    make = mqtt5_link if mqtt.spoken == "5" else mqtt311_link
    bulk_waits = SafetyFirst(node.ingest.online, node.ingest.safety_read)
    links: dict[Lane, Link] = {}
    for lane in Lane:
        will = Will(topics.gateway(config.node, "status"), b"offline") if lane is Lane.SAFETY else None
        settings = LinkSettings(
            host=mqtt.host,
            port=mqtt.port,
            client_id=f"{config.site}-{config.node}-{lane.value}",
            filters=topics.filters(lane),
            notices=NOTICES if lane is Lane.SAFETY else (),
            username=mqtt.username,
            password=mqtt.password(),
            tls=tls,
            will=will,
            farewell=node.presence.farewell if lane is Lane.BULK else None,
        )
        links[lane] = make(lane, settings, node.ingest, turn=bulk_waits.turn if lane is Lane.BULK else None)
    return links
