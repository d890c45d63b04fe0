"""The journal: what the gateway has acknowledged, and what must follow from it, in one SQLite file."""
