"""The rule files on disk, looked at every minute: what is there and not in force is said, never applied by itself.

Which files these are the configuration says, as it was read last: by the start, or by a person who applied rules.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from edge.health import Code, Troubles
from edge.intake import Intake
from edge.rulebook import PACKS_FOLDER, difference
from edge.settings import Config
from edge.store.records import KeptRules

log = logging.getLogger("anlin.rules")

LOOK_S = 60.0

_Signature = tuple[object, ...]


class Watched(Protocol):
    """Whose rules are in force: the node."""

    intake: Intake
    troubles: Troubles


class RuleWatch:
    """Compares what ``config`` names with what the node runs. Looks that failed are counted by `Troubles`."""

    def __init__(self, node: Watched, config: Config) -> None:
        self.difference: str | None = None
        """What the files would change, with what to do; None if nothing."""
        self._node = node
        self._config = config
        self._seen: _Signature | None = None

    def follow(self, listed: Iterable[str]) -> None:
        """The configuration's list of rule files has been read anew: from now on these are looked at."""
        self._config = self._config.model_copy(update={"rules": tuple(map(Path, listed))})

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look: files are read only where one was written, compiled only where its text is another."""
        kept = self._node.intake.kept
        if kept is None:
            return
        try:
            signature = await asyncio.to_thread(_signature, self._config, kept)
            if signature == self._seen:
                return
            told = await asyncio.to_thread(difference, self._config, kept)
        except Exception:  # the task's top: what looks at files must not end the gateway
            self._node.troubles.failures["rule_files"] += 1
            log.exception("the rule files could not be looked at")
            return
        self._seen = signature
        self._say(told)

    def _say(self, told: str | None) -> None:
        if told == self.difference:
            return
        self.difference = told
        if told is None:
            self._node.troubles.over(Code.RULES_DIFFER)
        else:
            log.warning(told)
            self._node.troubles.say(Code.RULES_DIFFER, told)


def _signature(config: Config, kept: KeptRules) -> _Signature:
    """Other than before when a file was written, listed, came or went, or other rules came into force."""
    paths = [*config.rules, *(Path(each.file) for each in kept.documents if not each.pack)]
    return (
        config.rules,
        kept.hash,
        kept.at,
        *(_stamp(path) for path in dict.fromkeys(paths)),
        *map(_stamp, sorted(PACKS_FOLDER.glob("*.yaml"))),
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
