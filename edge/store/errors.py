"""What can go wrong with the store. The type says what to do about it."""


class StoreError(Exception):
    """Of this package."""


class StoreUnusable(StoreError):
    """The store cannot be used as it is: do not start. The text names the remedy."""


class StoreUnwritable(StoreUnusable):
    """The database may be sound, but now it cannot be opened for writing: no room, read-only, a failing disk."""


class StoreLocked(StoreUnusable):
    """Another process holds the data directory."""

    def __init__(self, directory: str, holder: int | None) -> None:
        who = f"process {holder}" if holder is not None else "another process"
        super().__init__(
            f"data directory {directory} is in use by {who}: "
            "stop that gateway, or give this one a data_dir of its own"
        )
        self.holder = holder
        """Its process id, if it could be read."""


class CommitFailed(StoreError):
    """A batch is not on disk, in no part. Rebuild the engine from the store, call `Journal.reset`, go on."""

    def __init__(self, seq: int, reason: str, because_of: int | None = None) -> None:
        after = f" (batch {because_of} failed before it)" if because_of is not None else ""
        super().__init__(f"batch {seq} was not committed{after}: {reason}")
        self.seq = seq
        self.reason = reason
        self.because_of = because_of
        """The batch that failed first, where it was not this one."""


class JournalFull(StoreError):
    """Too many batches wait for the disk; keep this one open until the next commit is done."""


class JournalClosed(StoreError):
    """The journal takes no batch any more: it is being closed, or was never opened."""


class ReadFailed(StoreError):
    """The journal could not be read now: the disk, or a row that makes no sense. Try again or report it."""


class JournalDamaged(ReadFailed):
    """What the journal holds makes no sense any more; `edge.store.salvage` saves what does."""


class JournalReplaced(ReadFailed):
    """A damaged journal was begun anew: positions of the old one mean nothing, open the new one."""
