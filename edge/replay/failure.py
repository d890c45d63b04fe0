"""What can go wrong in a replay itself; a journal that cannot be read is a `StoreError`."""


class ReplayError(Exception):
    """A worker has ended without an answer, or said why it could not; the text is for people."""
