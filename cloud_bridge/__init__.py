"""The way out: what the journal holds becomes points in a cloud store.

It reads the journal and never writes it, forwards at least once, and can be killed at any time: whatever was
not recorded as stored is sent again, as the same bytes for the same points. May use `devices` and `rules`.
"""
