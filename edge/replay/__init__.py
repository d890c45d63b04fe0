"""Rules tried on the gateway's own history: what would have been raised and cleared."""
