"""How long to wait before the next attempt to connect."""

import random


class Backoff:
    """Waits of 1, 2, 4, 8, 16 and 25 s, each up to a fifth longer by chance: never above 30 s.

    The chance keeps the gateways of a town from coming back to a broker in step. It is small, because two
    that fight for one session must meet three times, each within 5 s, to be told from a bad line.
    """

    def __init__(self, first_s: float = 1.0, most_s: float = 25.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now; the next wait is twice as long."""
        wait_s, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        return wait_s * random.uniform(1.0, 1.2)  # noqa: S311 - nobody gains by guessing it

    def reset(self) -> None:
        """Begin again with the shortest wait: the last connection was a good one."""
        self._next_s = self._first_s
