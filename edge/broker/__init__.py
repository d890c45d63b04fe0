"""The broker as the gateway sees it: what it cannot keep, what waited in it, who is read first, our presence on it."""
