"""Devices that do not exist: physics with a seed, speaking only the wire.

The models (`simulators.device` and one module a kind) and the fleet are pure: seconds go in, messages come
out, and the same seed gives the same messages. Only `simulators.connections` and `simulators.play` talk to a
broker.
"""
