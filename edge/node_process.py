"""``anlin run``: the node with its children, from a checked configuration to a clean end."""

import asyncio
import gc
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

import msgspec

from devices.readings import Address
from devices.registry import Registry
from devices.topics import Lane, Topics
from edge.broker_watch import NOTICES
from edge.checking import load_registry, load_rules
from edge.children import Child, answers_http
from edge.clock import Clock
from edge.control import ControlServer
from edge.control_client import SOCKET_NAME
from edge.desk import Desk
from edge.mqtt.five import mqtt5_link
from edge.mqtt.link import Link, LinkRefused, LinkSettings, NotConnected, PublishRefusedError, Tls, Will
from edge.mqtt.three import mqtt311_link
from edge.node import HEALTH_S, Identity, Node
from edge.safety_first import SafetyFirst
from edge.settings import Config
from edge.store.errors import StoreUnusable
from edge.store.journal import Journal
from edge.web.settings import WebSettings
from rules.definitions import RuleSet
from rules.engine import Engine

log = logging.getLogger("anlin")

EXIT_UNUSABLE = 2
EXIT_REFUSED = 4

SWITCH_INTERVAL_S = 0.0002
"""How long the writer thread may keep the interpreter from the event loop."""


GC_YOUNG = 200_000
"""New objects before the collector looks; a message makes a few, and none of them in a cycle."""


def main(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit code. Faults of the configuration are found before."""
    rules, registry = load_rules(config), load_registry(config)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        asyncio.run(_run(config, rules, registry))
    except (StoreUnusable, LinkRefused, OSError, BaseExceptionGroup) as error:
        cause = _first(error)
        if not isinstance(cause, StoreUnusable | LinkRefused | OSError):
            raise
        sys.stderr.write(f"anlin: {cause}\n")
        return EXIT_REFUSED if isinstance(cause, LinkRefused) else EXIT_UNUSABLE
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run(config: Config, rules: RuleSet, registry: Registry) -> None:
    async with AsyncExitStack() as stack:
        if config.mqtt.embedded:
            from edge.mqtt.embedded import EmbeddedBroker  # noqa: PLC0415 - a site never loads it

            await stack.enter_async_context(EmbeddedBroker(config.mqtt.port))
            log.info(
                "the embedded broker is for demos and development: it keeps no session and delivers nothing again;"
                " a property runs Mosquitto with deploy/mosquitto.conf"
            )
        await _serve(config, rules, registry)


async def _serve(config: Config, rules: RuleSet, registry: Registry) -> None:
    max_bytes, forwarding = config.store.journal_max_bytes, config.cloud.url is not None
    async with Journal(config.data_dir, max_bytes=max_bytes, forwarding=forwarding) as journal:

        def place_of(address: Address) -> dict[str, str]:
            device = registry.device(address)
            return device.place if device is not None else {}

        engine = Engine(
            rules,
            site=config.site,
            node=config.node,
            place_of=place_of,
            unregistered_max=config.unregistered_max,
        )
        topics = Topics(config.mqtt.prefix, config.site)
        who = Identity(config.site, config.node, topics, config.store.commit_ms, config.mqtt.embedded)
        node = Node(who, engine, registry, journal, Clock())
        children = _children(config)
        desk = Desk(
            node,
            registry,
            children,
            version=version("anlin"),
            embedded_broker=config.mqtt.embedded,
        )
        control = ControlServer(config.data_dir / SOCKET_NAME, desk.answer)
        node.attach(_links(config, topics, node), control)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, node.stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG, 20, 100)
        log.info("anlin is up", extra={"site": config.site, "node": config.node, "replayed": node.replayed})
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(control.run(), name="control")]
            beside += [group.create_task(child.run(), name=child.name) for child in children]
            beside.append(group.create_task(_tell_health(node, desk), name="health"))
            await node.run()
            for task in beside:
                task.cancel()


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
    bulk_waits = SafetyFirst(node.online, partial(node.heard_at, Lane.SAFETY))
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
        )
        links[lane] = make(lane, settings, node, turn=bulk_waits.turn if lane is Lane.BULK else None)
    return links


async def _tell_health(node: Node, desk: Desk) -> None:
    """Every minute: figures into the journal (and so to the cloud), health onto its topic."""
    topic = node.who.topics.gateway(node.who.node, "health")
    while True:
        await node.online.wait()
        health = desk.health()
        node.feel(desk.figures(health))
        try:
            await node.links[Lane.SAFETY].publish(topic, msgspec.json.encode(health), retain=True)
        except NotConnected:
            log.debug("health was not published: no connection")
        except PublishRefusedError as error:
            log.error("the broker refuses a publication", extra={"topic": topic, "reason": str(error)})  # noqa: TRY400
        await asyncio.sleep(HEALTH_S)
