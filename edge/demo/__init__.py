"""``anlin demo``: the whole gateway on real MQTT traffic, with devices that do not exist."""
