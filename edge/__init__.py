"""The process: MQTT in, SQLite, HTTP, people, wiring."""

RELEASED_MS = 1_793_491_200_000
"""2026-11-01: no clock that is right shows an earlier time. Brought up to date with every release."""
