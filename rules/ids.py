"""Identifiers that come out the same when the journal is replayed."""

from hashlib import sha256

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(at_ms: int, *parts: object) -> str:
    """A ULID (26 characters) of a time and, in place of randomness, 80 bits of a hash of ``parts``."""
    digest = sha256("\x1f".join(map(str, parts)).encode()).digest()
    value = (at_ms & (2**48 - 1)) << 80 | int.from_bytes(digest[:10])
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
