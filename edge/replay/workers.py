"""A trial over several processors: one process a shard, forked, so that rules and registry are read once.

The workers are niced, because a gateway may be running beside. They end with the parent, whatever ends it. Call this
before any thread is started.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import cast

import msgspec

from edge.history.errors import HistoryError
from edge.replay.failure import ReplayError
from edge.replay.trial import Found, Progress, Trial, run
from edge.store.errors import StoreError

NICE = 10
TELL_EVERY = 20_000
"""Readings between two words about progress."""
LOOK_S = 0.5

_decode = msgspec.msgpack.Decoder(tuple[Progress | Found | str, ...]).decode

Watch = Callable[[int, int], None]
"""Told the readings taken so far and the earliest moment that a shard has come to (Unix ms)."""

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)


def run_all(trial: Trial, watch: Watch) -> list[Found]:
    """What each shard has found. Raises `StoreError` and `ReplayError`."""
    if trial.shards == 1:
        begins = trial.span.begins_ms
        try:
            return [run(trial, 0, lambda progress: watch(progress.readings, max(begins, progress.at)))]
        except HistoryError as error:
            raise ReplayError(str(error)) from error
    context = multiprocessing.get_context("fork")
    progress = [Progress(0, trial.span.begins_ms)] * trial.shards
    found: dict[int, Found] = {}
    pipes: dict[Connection, int] = {}
    workers = []
    try:
        for shard in range(trial.shards):
            mine, theirs = context.Pipe(duplex=False)
            worker = context.Process(
                target=_work, args=(trial, shard, theirs, os.getpid()), name=f"replay-{shard}"
            )
            with _uninterrupted():
                worker.start()
            theirs.close()
            pipes[mine] = shard
            workers.append(worker)
        while len(found) < trial.shards:
            for ready in wait(list(pipes), LOOK_S):
                pipe = cast("Connection", ready)
                shard = pipes[pipe]
                match _received(pipe):
                    case Progress() as told:
                        progress[shard] = told
                    case Found() as done:
                        found[shard] = done
                        del pipes[pipe]
                        pipe.close()
                        progress[shard] = Progress(done.readings + done.warmed, trial.span.to_ms)
                    case str() as reason:
                        raise ReplayError(reason)
            watch(sum(each.readings for each in progress), min(each.at for each in progress))
        for worker in workers:
            worker.join()
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()
    return [found[shard] for shard in range(trial.shards)]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: what is raised in the hooks of a fork is told on stderr and forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(pipe: Connection) -> Progress | Found | str:
    try:
        (answer,) = _decode(pipe.recv_bytes())
    except EOFError:
        return "a replay process has ended without an answer: is there enough memory? try --jobs 1"
    return answer


def _work(trial: Trial, shard: int, answers: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with(parent)
    os.nice(NICE)
    said = 0

    def tell(progress: Progress) -> None:
        nonlocal said
        if progress.readings - said >= TELL_EVERY:
            said = progress.readings
            answers.send_bytes(msgspec.msgpack.encode((progress,)))

    try:
        answer: Found | str = run(trial, shard, tell)
    except (StoreError, HistoryError, OSError) as error:
        answer = str(error)
    with suppress(OSError):
        answers.send_bytes(msgspec.msgpack.encode((answer,)))
    answers.close()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
