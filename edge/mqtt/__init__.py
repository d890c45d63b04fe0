"""MQTT: the connection to the broker, in two protocol versions behind one Protocol."""
